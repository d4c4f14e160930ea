//go:build !linux

package load

// keepPunctual does nothing here.
func keepPunctual(bool) (release func()) { return func() {} }
