package topology

import (
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/compose-spec/compose-go/v2/types"
	"github.com/docker/go-units"

	"github.com/hasvc/gauntlet/harness/cluster"
)

// mounts reads volumes and tmpfs.
func (l *loading) mounts(p *types.Project, c types.ServiceConfig, base []string) []cluster.Mount {
	var out []cluster.Mount
	taken := map[string]bool{}
	add := func(m cluster.Mount, at []string) {
		switch {
		case !path.IsAbs(m.Target):
			l.fail(at, fmt.Sprintf("the target %q is no absolute path in the node", m.Target), "")
		case path.Clean(m.Target) == "/":
			l.fail(at, "nothing can be mounted over the root of a node", "")
		case taken[path.Clean(m.Target)]:
			l.fail(at, fmt.Sprintf("two mounts at %s", m.Target), "")
		}
		m.Target = path.Clean(m.Target)
		taken[m.Target] = true
		out = append(out, m)
	}
	for i, v := range c.Volumes {
		at := index(append(slices.Clone(base), "volumes"), i)
		m := cluster.Mount{Kind: v.Type, Source: v.Source, Target: v.Target, ReadOnly: v.ReadOnly}
		switch v.Type {
		case types.VolumeTypeVolume:
			if v.Source == "" {
				l.fail(at, "a volume without a name", "give it one: NAME:"+v.Target)
			} else if _, ok := p.Volumes[v.Source]; !ok {
				l.fail(at, fmt.Sprintf("the volume %s is not declared", v.Source), "add it to `volumes:` at the top level; a path of the host begins with ./ or /")
			}
		case types.VolumeTypeBind:
			if !filepath.IsAbs(m.Source) {
				m.Source = l.abs(m.Source)
			}
			if _, err := os.Stat(m.Source); err != nil {
				l.fail(at, "the path to bind: "+err.Error(), "it must exist before the run")
			}
		case types.VolumeTypeTmpfs:
			if v.Tmpfs != nil {
				m.Size = int64(v.Tmpfs.Size)
			}
			m.Source = ""
		default:
			l.fail(at, fmt.Sprintf("a volume of type %s cannot be honoured", v.Type), "volume, bind or tmpfs")
		}
		add(m, at)
	}
	for i, t := range c.Tmpfs {
		at := index(append(slices.Clone(base), "tmpfs"), i)
		target, options, _ := strings.Cut(t, ":")
		m := cluster.Mount{Kind: types.VolumeTypeTmpfs, Target: target}
		for o := range strings.SplitSeq(options, ",") {
			key, value, _ := strings.Cut(o, "=")
			switch key {
			case "", "rw", "nosuid", "nodev":
			case "exec", "noexec": // without a word, Docker's tmpfs is noexec, in this form and the long one
				m.Exec = key == "exec"
			case "ro":
				m.ReadOnly = true
			case "size":
				n, err := units.RAMInBytes(value)
				if err != nil || n < 0 {
					l.fail(at, fmt.Sprintf("size=%s is no size", value), "such as 64m")
				}
				m.Size = n
			case "mode":
				if strings.TrimLeft(value, "0") != "1777" {
					l.fail(at, "a tmpfs has mode 1777", "remove the option")
				}
			default:
				l.fail(at, fmt.Sprintf("the option %s of a tmpfs cannot be honoured", key), "size, mode, ro and exec can")
			}
		}
		add(m, at)
	}
	return out
}

// maxContent is Docker's bound on configs (1000 KB) and secrets (500 KB), the larger of the two.
const maxContent = 1000 << 10

// files reads configs and secrets.
func (l *loading) files(p *types.Project, c types.ServiceConfig, base []string) []cluster.File {
	var out []cluster.File
	add := func(kind string, i int, r types.FileReferenceConfig, o types.FileObjectConfig, declared bool, target string) {
		at := index(append(slices.Clone(base), kind+"s"), i)
		if !declared {
			l.fail(at, fmt.Sprintf("the %s %s is not declared", kind, r.Source), fmt.Sprintf("add it to `%ss:` at the top level", kind))
			return
		}
		f := cluster.File{Target: target, Mode: 0o444}
		if r.Mode != nil {
			f.Mode = uint32(*r.Mode) & 0o7777
		}
		if !path.IsAbs(f.Target) {
			l.fail(at, fmt.Sprintf("the target %q is no absolute path in the node", f.Target), "")
		}
		for _, have := range out {
			if have.Target == f.Target {
				l.fail(at, fmt.Sprintf("two files at %s", f.Target), "")
			}
		}
		var err error
		if f.Content, err = l.content(kind, r.Source, o); err != nil {
			l.fail([]string{kind + "s", r.Source}, fmt.Sprintf("the %s %s: %v", kind, r.Source, err), "")
		}
		out = append(out, f)
	}
	for i, r := range c.Configs {
		o, ok := p.Configs[r.Source]
		target := r.Target
		if target == "" {
			target = "/" + r.Source
		}
		add("config", i, types.FileReferenceConfig(r), types.FileObjectConfig(o), ok, target)
	}
	for i, r := range c.Secrets {
		o, ok := p.Secrets[r.Source]
		target := r.Target
		if target == "" {
			target = r.Source
		}
		if !path.IsAbs(target) {
			target = path.Join("/run/secrets", target)
		}
		add("secret", i, types.FileReferenceConfig(r), types.FileObjectConfig(o), ok, target)
	}
	return out
}

func (l *loading) content(kind, name string, o types.FileObjectConfig) ([]byte, error) {
	switch {
	case o.File != "":
		data, err := readRegular(l.abs(o.File))
		if err == nil && len(data) > maxContent {
			err = fmt.Errorf("%s has %d bytes; at most %d are allowed", o.File, len(data), maxContent)
		}
		return data, err
	case o.Environment != "":
		l.seen[o.Environment] = true
		v, ok := l.env[o.Environment]
		if !ok {
			return nil, fmt.Errorf("the variable %s is not set", o.Environment)
		}
		return []byte(v), nil
	case o.Content != "":
		return []byte(o.Content), nil
	}
	if kind == "secret" {
		return nil, fmt.Errorf("it has neither file nor environment")
	}
	return nil, fmt.Errorf("it has neither file, content nor environment")
}
