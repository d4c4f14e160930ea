package images

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
)

// base is the lowest layer of an image of executables: what programs expect of a system beside their libraries. It takes
// the certificates and time zones of this machine, and is put together once.
var base = sync.OnceValues(func() (*layer, error) {
	files := []file{
		{path: "/tmp", mode: 0o1777},
		{path: "/var/tmp", mode: 0o1777},
		{path: "/run", mode: 0o755},
		{path: "/home", mode: 0o755},
		{path: "/root", mode: 0o700},
		{path: "/var/lib", mode: 0o755},
		{path: "/usr/local/bin", mode: 0o755},
		{path: "/etc/passwd", mode: 0o644, data: []byte("root:x:0:0:root:/root:/sbin/nologin\nnobody:x:65534:65534:nobody:/nonexistent:/sbin/nologin\n")},
		{path: "/etc/group", mode: 0o644, data: []byte("root:x:0:\nnogroup:x:65534:\n")},
		// Without it glibc asks services that are not there before it asks for a name.
		{path: "/etc/nsswitch.conf", mode: 0o644, data: []byte("passwd: files\ngroup: files\nhosts: files dns\n")},
	}
	files = append(files, certificates()...)
	zones, err := timeZones()
	if err != nil {
		return nil, fmt.Errorf("reading the time zones of this machine: %w", err)
	}
	l, err := newLayer(append(files, zones...))
	if err != nil {
		return nil, fmt.Errorf("the base of images: %w", err)
	}
	return l, nil
})

// certificates are the roots that this machine trusts, where distributions keep them (as crypto/x509 knows), in the places
// where Go and OpenSSL look for them.
func certificates() []file {
	for _, bundle := range []string{
		"/etc/ssl/certs/ca-certificates.crt",
		"/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
		"/etc/pki/tls/certs/ca-bundle.crt",
		"/etc/ssl/ca-bundle.pem",
		"/etc/ssl/cert.pem",
	} {
		if st, err := os.Stat(bundle); err == nil && st.Mode().IsRegular() {
			const place = "/etc/ssl/certs/ca-certificates.crt"
			return []file{
				{path: place, mode: 0o644, from: bundle},
				{path: "/etc/ssl/cert.pem", mode: 0o777, link: place},
				{path: "/etc/pki/tls/certs/ca-bundle.crt", mode: 0o777, link: place},
			}
		}
	}
	return nil
}

func timeZones() ([]file, error) {
	const root = "/usr/share/zoneinfo"
	var files []file
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		switch {
		case d.IsDir():
			if path == root+"/right" || path == root+"/posix" {
				return fs.SkipDir // the same zones again, with leap seconds and without
			}
		case d.Type() == fs.ModeSymlink:
			to, err := os.Readlink(path)
			if err != nil {
				return err
			}
			files = append(files, file{path: path, mode: 0o777, link: to})
		case d.Type().IsRegular():
			files = append(files, file{path: path, mode: 0o644, from: path})
		}
		return nil
	})
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil // a machine without time zones
	}
	return files, err
}
