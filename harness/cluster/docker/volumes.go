package docker

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// Labels of a volume: which directory of volumes it stands for, and which name in it.
const (
	labelVolumes = "dev.gauntlet.volumes"
	labelVolume  = "dev.gauntlet.volume"
)

// The engine keeps volumes itself: nothing assumes that it sees the harness's directories. A named volume of a topology belongs to
// the directory that Options.Volumes names, so it is found again by the next start with the same one.

// keyFile holds the key of a directory of volumes. No volume has such a name.
const keyFile = ".docker volumes"

// volumesKey stands for a directory of volumes: this one, and none that had its path before, or has it on another machine of the
// engine's. A directory that is not there, or has no key, has no volumes yet: then the key is empty.
func volumesKey(dir string) (string, error) {
	path := filepath.Join(dir, keyFile)
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("read the key of the volumes: %w", err)
	}
	key, whole := strings.CutSuffix(string(b), "\n")
	if !whole {
		return "", fmt.Errorf("%s was cut off while it was written: remove it", path)
	}
	return key, nil
}

// makeVolumesKey is volumesKey of a directory that is to have volumes.
func makeVolumesKey(dir string) (string, error) {
	if key, err := volumesKey(dir); key != "" || err != nil {
		return key, err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", fmt.Errorf("make the directory of volumes: %w", err)
	}
	f, err := os.OpenFile(filepath.Join(dir, keyFile), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if errors.Is(err, fs.ErrExist) {
		return volumesKey(dir) // another start was quicker
	}
	if err != nil {
		return "", fmt.Errorf("make the key of the volumes: %w", err)
	}
	key := strings.ToLower(rand.Text()[:16])
	_, err = f.WriteString(key + "\n")
	if err = errors.Join(err, f.Close()); err != nil {
		return "", fmt.Errorf("write the key of the volumes: %w", err)
	}
	return key, nil
}

// volumeName is the engine's name of a volume.
func volumeName(key, name string) string { return "gauntlet-" + key + "-" + name }

// volumeLabels are those of a volume, or, with an empty name, what all volumes of the directory have.
func volumeLabels(key, name string) map[string]string {
	labels := map[string]string{labelVolumes: key}
	if name != "" {
		labels[labelVolume] = name
	}
	return labels
}
