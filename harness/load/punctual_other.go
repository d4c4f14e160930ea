//go:build !linux

package load

// keepPunctual does nothing here.
func keepPunctual() (release func()) { return func() {} }
