//go:build testdisk

package torture

const bentDisks = true // this binary was built with the tag, and so are its members
