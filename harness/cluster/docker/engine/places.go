package engine

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/testcontainers/testcontainers-go"
)

// place is where an engine may be.
type place struct {
	host  string // such as unix:///var/run/docker.sock
	certs string // directory of ca.pem, cert.pem and key.pem; empty: as the environment says
}

// places returns where to look for an engine. What was said wins, in this order: DOCKER_HOST, the file of testcontainers
// (~/.testcontainers.properties), the docker context. Otherwise every usual socket that exists: the system's, rootless
// docker's, Docker Desktop's, Podman's.
func places() ([]place, error) {
	if host := os.Getenv("DOCKER_HOST"); host != "" {
		return []place{{host: host}}, nil
	}
	if host := settings().Host; host != "" {
		return []place{{host: host}}, nil
	}
	// testcontainers knows nothing of docker's contexts: the same file must lead both to the same engine.
	if p, err := contextPlace(); err != nil || p != nil {
		if err != nil {
			return nil, &ConnectError{Stage: "socket", Err: err, Remedy: "correct it with docker context ls and docker context use"}
		}
		return []place{*p}, nil
	}
	var found []place
	for _, s := range usualSockets() {
		if info, err := os.Stat(s); err == nil && info.Mode()&fs.ModeSocket != 0 {
			found = append(found, place{host: "unix://" + s})
		}
	}
	if len(found) == 0 {
		return nil, &ConnectError{Stage: "socket", Err: ErrNoEngine,
			Remedy: "install docker and start it, or set DOCKER_HOST; looked for " + strings.Join(usualSockets(), ", ")}
	}
	return found, nil
}

// usualSockets are the sockets of engines that nobody had to configure.
func usualSockets() []string {
	sockets := []string{"/var/run/docker.sock"}
	runtime := os.Getenv("XDG_RUNTIME_DIR")
	if runtime == "" {
		runtime = fmt.Sprintf("/run/user/%d", os.Getuid())
	}
	sockets = append(sockets, filepath.Join(runtime, "docker.sock"))
	if home, err := os.UserHomeDir(); err == nil {
		sockets = append(sockets, filepath.Join(home, ".docker/run/docker.sock"), filepath.Join(home, ".docker/desktop/docker.sock"))
	}
	return append(sockets, filepath.Join(runtime, "podman/podman.sock"), "/run/podman/podman.sock")
}

// contextPlace returns the engine of docker's current context, or nil when that is the default one.
func contextPlace() (*place, error) {
	dir := os.Getenv("DOCKER_CONFIG")
	if dir == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			return nil, nil // nobody's: no context
		}
		dir = filepath.Join(home, ".docker")
	}
	name := os.Getenv("DOCKER_CONTEXT")
	if name == "" {
		var config struct{ CurrentContext string }
		switch err := readJSON(filepath.Join(dir, "config.json"), &config); {
		case errors.Is(err, fs.ErrNotExist):
			return nil, nil
		case err != nil:
			return nil, err
		}
		name = config.CurrentContext
	}
	if name == "" || name == "default" {
		return nil, nil
	}
	// docker's files of a context are named after the digest of its name.
	sum := sha256.Sum256([]byte(name))
	id := hex.EncodeToString(sum[:])
	var meta struct {
		Endpoints map[string]struct{ Host string }
	}
	if err := readJSON(filepath.Join(dir, "contexts/meta", id, "meta.json"), &meta); err != nil {
		return nil, fmt.Errorf("the docker context %s: %w", name, err)
	}
	p := &place{host: meta.Endpoints["docker"].Host}
	if p.host == "" {
		return nil, fmt.Errorf("the docker context %s names no engine", name)
	}
	if certs := filepath.Join(dir, "contexts/tls", id, "docker"); isDir(certs) {
		p.certs = certs
	}
	return p, nil
}

// readJSON reads a file of JSON.
func readJSON(path string, into any) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(b, into); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

// isDir reports whether a directory exists.
func isDir(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}

// environ guards the environment while it says where the engine is.
var environ sync.Mutex

// during calls f while the environment names this place, and puts the environment back: moby's client and testcontainers
// learn of an engine there and nowhere else, but what the harness starts should not inherit it.
func (p place) during(f func() error) error {
	env := map[string]string{"DOCKER_HOST": p.host}
	if p.certs != "" {
		env["DOCKER_CERT_PATH"], env["DOCKER_TLS_VERIFY"] = p.certs, "1"
	}
	return withEnviron(env, f)
}

// withEnviron calls f with variables set, and puts back what they were.
func withEnviron(env map[string]string, f func() error) error {
	environ.Lock()
	defer environ.Unlock()
	for name, value := range env {
		was, had := os.LookupEnv(name)
		if err := os.Setenv(name, value); err != nil {
			return fmt.Errorf("set %s: %w", name, err)
		}
		defer func() {
			if had {
				os.Setenv(name, was)
			} else {
				os.Unsetenv(name)
			}
		}()
	}
	return f()
}

// settings reads the settings of testcontainers, once in a process: later changes are not seen.
var settings = sync.OnceValue(func() testcontainers.TestcontainersConfig {
	env := map[string]string{}
	// The image of Ryuk, testcontainers' reaper, may not be to be had, and Sweep does its work. Who wants it says so.
	const ryuk = "TESTCONTAINERS_RYUK_DISABLED"
	if _, said := os.LookupEnv(ryuk); !said {
		env[ryuk] = "true"
	}
	var s testcontainers.TestcontainersConfig
	_ = withEnviron(env, func() error { // Setenv of a constant name does not fail
		s = testcontainers.ReadConfig()
		return nil
	})
	if host := s.Config.TestcontainersHost; host != "" {
		s.Host = host // tc.host wins over docker.host, as in testcontainers
	}
	return s
})
