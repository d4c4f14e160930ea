package images

import (
	"context"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestRefused(t *testing.T) {
	own, err := os.Executable()
	require.NoError(t, err)
	elf, err := os.ReadFile(own)
	require.NoError(t, err)
	foreign := append([]byte(nil), elf...)
	foreign[18] = 247 // e_machine: BPF, which no engine runs on
	for _, c := range []struct {
		name    string
		content []byte
		says    string
	}{
		{"a script", []byte("#!/usr/bin/env python3\nprint()\n"), "script for /usr/bin/env python3, which is not in the image; name an image"},
		{"nothing", nil, "no Linux executable"},
		{"text", []byte("hello"), "no Linux executable"},
		{"a PE", []byte("MZ\x90\x00and so on, for longer than the header of an ELF file, which has sixty-four bytes"), "no Linux executable"},
		{"a foreign machine", foreign, "it is for EM_BPF, and the engine runs on " + runtime.GOARCH},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "program")
			require.NoError(t, os.WriteFile(path, c.content, 0o755))
			_, err := lookAt(context.Background(), path, runtime.GOARCH)
			assert.ErrorContains(t, err, c.says)
		})
	}
	_, err = lookAt(context.Background(), own, "other")
	assert.ErrorContains(t, err, "it is for "+runtime.GOARCH+", and the engine runs on other")
	_, err = lookAt(context.Background(), filepath.Join(t.TempDir(), "none"), runtime.GOARCH)
	assert.ErrorIs(t, err, os.ErrNotExist)
}

func TestParseList(t *testing.T) {
	glibc := "\tlinux-vdso.so.1 (0x00007ffd4a5f2000)\n" +
		"\tlibevent-2.1.so.7 => /lib/x86_64-linux-gnu/libevent-2.1.so.7 (0x00007f5d3a300000)\n" +
		"\tlibown.so => /opt/some where/libown.so (0x00007f5d3a200000)\n" +
		"\tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007f5d3a000000)\n" +
		"\t/lib64/ld-linux-x86-64.so.2 (0x00007f5d3a3f1000)\n"
	got, err := parseList([]byte(glibc))
	require.NoError(t, err)
	assert.Equal(t, []library{
		{"libevent-2.1.so.7", "/lib/x86_64-linux-gnu/libevent-2.1.so.7"},
		{"libown.so", "/opt/some where/libown.so"},
		{"libc.so.6", "/lib/x86_64-linux-gnu/libc.so.6"},
		{"/lib64/ld-linux-x86-64.so.2", "/lib64/ld-linux-x86-64.so.2"},
	}, got)

	musl := "\t/lib/ld-musl-x86_64.so.1 (0x7f8a4e5c5000)\n\tlibz.so.1 => /usr/lib/libz.so.1 (0x7f8a4e5a0000)\n\tlibc.musl-x86_64.so.1 => /lib/ld-musl-x86_64.so.1 (0x7f8a4e5c5000)\n"
	got, err = parseList([]byte(musl))
	require.NoError(t, err)
	assert.Equal(t, []library{
		{"/lib/ld-musl-x86_64.so.1", "/lib/ld-musl-x86_64.so.1"},
		{"libz.so.1", "/usr/lib/libz.so.1"},
		{"libc.musl-x86_64.so.1", "/lib/ld-musl-x86_64.so.1"},
	}, got)

	_, err = parseList([]byte("\tliba.so => not found\n\tlibb.so.2 => not found\n"))
	assert.ErrorContains(t, err, "not on this machine: liba.so, libb.so.2")
}
