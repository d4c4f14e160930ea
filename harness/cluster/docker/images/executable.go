package images

import (
	"bufio"
	"bytes"
	"context"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// insteadOf is what to do about a program that cannot be put into an image from here.
const insteadOf = "name an image or a Dockerfile for the service (image:, build:)"

// executable is a program of this machine with the files that it needs to be started.
type executable struct {
	path      string
	loader    string // the dynamic loader, where the program has one
	libraries []file
}

// files are those of a layer that holds the program under each of these paths.
func (e *executable) files(paths []string) []file {
	paths = slices.Sorted(slices.Values(paths))
	files := []file{{path: paths[0], mode: 0o755, from: e.path}}
	for _, p := range paths[1:] {
		files = append(files, file{path: p, mode: 0o755, hard: paths[0]})
	}
	return append(files, e.libraries...)
}

// architectures are the machines of ELF by the engine's names for them.
var architectures = map[elf.Machine]string{
	elf.EM_X86_64: "amd64", elf.EM_AARCH64: "arm64", elf.EM_386: "386", elf.EM_ARM: "arm", elf.EM_RISCV: "riscv64", elf.EM_S390: "s390x", elf.EM_PPC64: "ppc64",
}

// lookAt reads what a program is and needs. It must be one that an engine of this architecture can start.
func lookAt(ctx context.Context, path, arch string) (*executable, error) {
	in, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer in.Close()
	head := make([]byte, 256)
	n, err := io.ReadFull(in, head)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.EOF) {
		return nil, err
	}
	if line, _, _ := strings.Cut(string(head[:n]), "\n"); strings.HasPrefix(line, "#!") {
		return nil, fmt.Errorf("it is a script for %s, which is not in the image; %s", strings.TrimSpace(line[2:]), insteadOf)
	}
	program, err := elf.NewFile(in)
	var format *elf.FormatError
	if errors.As(err, &format) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return nil, fmt.Errorf("it is no Linux executable (%w); build it with GOOS=linux, or %s", err, insteadOf)
	}
	if err != nil {
		return nil, err
	}
	own, known := architectures[program.Machine]
	if own == "ppc64" && program.ByteOrder == binary.LittleEndian {
		own = "ppc64le"
	}
	if !known {
		own = program.Machine.String()
	}
	if own != arch {
		return nil, fmt.Errorf("it is for %s, and the engine runs on %s; build it for that, or %s", own, arch, insteadOf)
	}
	e := &executable{path: path}
	for _, p := range program.Progs {
		if p.Type == elf.PT_INTERP {
			b, err := io.ReadAll(p.Open())
			if err != nil {
				return nil, fmt.Errorf("reading which loader it has: %w", err)
			}
			e.loader = string(bytes.TrimRight(b, "\x00"))
		}
	}
	if e.loader == "" {
		return e, nil // linked statically
	}
	return e, e.findLibraries(ctx)
}

// findLibraries asks the program's own loader, of glibc or musl, which libraries it would load.
func (e *executable) findLibraries(ctx context.Context) error {
	if _, err := os.Stat(e.loader); err != nil {
		return fmt.Errorf("it is linked for the loader %s, which this machine has not; link it statically (CGO_ENABLED=0), or %s", e.loader, insteadOf)
	}
	var said bytes.Buffer
	cmd := exec.CommandContext(ctx, e.loader, "--list", e.path)
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return fmt.Errorf("asking %s for its libraries: %w: %s", e.loader, err, bytes.TrimSpace(said.Bytes()))
	}
	needs, err := parseList(out)
	if err != nil {
		return err
	}
	// All of them go beside the C library, where the loader always looks: the image has no cache of it, and a program that
	// finds its libraries relative to itself ($ORIGIN) stands elsewhere here. musl's C library is its loader.
	dir := "/lib"
	for _, n := range needs {
		if n.name == "libc.so.6" {
			dir = filepath.Dir(n.path)
			needs = append(needs, nameService(dir)...)
			break
		}
	}
	place := map[string]string{e.loader: e.loader}
	for _, n := range needs {
		if at := n.name; at == e.loader {
			continue
		} else if filepath.IsAbs(at) {
			place[at] = n.path
		} else {
			place[filepath.Join(dir, at)] = n.path
		}
	}
	for at, path := range place {
		from, err := filepath.EvalSymlinks(path)
		if err != nil {
			return fmt.Errorf("a library that it needs: %w", err)
		}
		e.libraries = append(e.libraries, file{path: at, mode: 0o755, from: from})
	}
	return nil
}

// library is one that a loader found.
type library struct{ name, path string }

// parseList reads the answer of LOADER --list:
//
//	linux-vdso.so.1 (0x00007ffd4a5f2000)
//	libc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007f5d3a000000)
//	/lib64/ld-linux-x86-64.so.2 (0x00007f5d3a3f1000)
func parseList(out []byte) ([]library, error) {
	var (
		found   []library
		missing []string
	)
	for lines := bufio.NewScanner(bytes.NewReader(out)); lines.Scan(); {
		line := strings.TrimSpace(lines.Text())
		if at := strings.LastIndex(line, " (0x"); at >= 0 {
			line = line[:at]
		}
		name, path, mapped := strings.Cut(line, " => ")
		switch {
		case mapped && path == "not found":
			missing = append(missing, name)
		case mapped && filepath.IsAbs(path):
			found = append(found, library{name, path})
		case !mapped && filepath.IsAbs(name):
			found = append(found, library{name, name})
		}
	}
	if len(missing) > 0 {
		return nil, fmt.Errorf("libraries that it needs are not on this machine: %s", strings.Join(missing, ", "))
	}
	return found, nil
}

// nameService are the libraries that glibc loads by itself, unlisted: to look up names (before 2.34; later they are part
// of libc, and these are empty), and to end a thread.
func nameService(dir string) []library {
	var found []library
	for _, name := range []string{"libnss_files.so.2", "libnss_dns.so.2", "libresolv.so.2", "libgcc_s.so.1"} {
		if path := filepath.Join(dir, name); exists(path) {
			found = append(found, library{name, path})
		}
	}
	return found
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
