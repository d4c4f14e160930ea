package build

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// local finds a program of this machine: a path relative to dir, or a name on PATH. Symbolic links are kept, because
// some programs look at the name they are started by.
func local(program, dir string) (string, error) {
	if !strings.Contains(program, "/") {
		found, err := exec.LookPath(program)
		if err == nil {
			return filepath.Abs(found)
		}
		if _, beside := os.Stat(filepath.Join(dir, program)); beside == nil {
			return "", fmt.Errorf("not found on PATH; the file beside it is meant by ./%s", program)
		}
		if errors.Is(err, exec.ErrNotFound) {
			return "", errors.New("not found on PATH; install it, or give its path")
		}
		return "", err
	}
	path := program
	if !filepath.IsAbs(path) {
		path = filepath.Join(dir, path)
	}
	st, err := os.Stat(path)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return "", fmt.Errorf("%s does not exist", path)
	case err != nil:
		return "", err
	case st.IsDir():
		return "", fmt.Errorf("%s is a directory; name the program in it", path)
	case !st.Mode().IsRegular():
		return "", fmt.Errorf("%s is no regular file", path)
	}
	// root may execute whatever has any execute bit; access(2) knows that and more.
	if err := unix.Access(path, unix.X_OK); err != nil {
		return "", fmt.Errorf("%s is not executable; chmod +x it", path)
	}
	return path, nil
}
