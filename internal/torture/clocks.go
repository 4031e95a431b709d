//go:build !testclock

package torture

const bentClocks = false
