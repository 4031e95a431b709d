//go:build !testdisk

package torture

const bentDisks = false
