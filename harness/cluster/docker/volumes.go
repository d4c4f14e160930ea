package docker

import (
	"crypto/sha256"
	"encoding/hex"
)

// Labels of a volume: which directory of volumes it stands for, and which name in it.
const (
	labelVolumes = "dev.gauntlet.volumes"
	labelVolume  = "dev.gauntlet.volume"
)

// The engine keeps volumes itself: nothing assumes that it sees the harness's directories. A named volume of a topology belongs to
// the directory that Options.Volumes names, so it is found again by the next start with the same one.

// volumesKey stands for a directory of volumes.
func volumesKey(dir string) string {
	sum := sha256.Sum256([]byte(dir))
	return hex.EncodeToString(sum[:6])
}

// volumeName is the engine's name of a volume.
func volumeName(dir, name string) string { return "gauntlet-" + volumesKey(dir) + "-" + name }

// volumeLabels are those of a volume, or, with an empty name, what all volumes of the directory have.
func volumeLabels(dir, name string) map[string]string {
	labels := map[string]string{labelVolumes: volumesKey(dir)}
	if name != "" {
		labels[labelVolume] = name
	}
	return labels
}
