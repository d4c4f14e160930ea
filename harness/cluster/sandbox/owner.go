package sandbox

import (
	"io/fs"
	"syscall"
)

// ownerOf returns the user id of a file.
func ownerOf(info fs.FileInfo) int {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return int(st.Uid)
	}
	return 0
}
