//go:build testclock

package torture

const bentClocks = true // this binary was built with the tag, and so are its members
