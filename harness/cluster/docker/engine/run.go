package engine

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/moby/moby/client"
	"golang.org/x/sync/errgroup"
)

// Run is what one topology has on the engine. Everything in it carries its labels.
type Run struct {
	e       *Engine
	id      string
	name    string
	volumes sync.Mutex // held while a volume is made
}

// NewRun returns a run with a fresh id. Nothing is made yet.
func (e *Engine) NewRun(name string) *Run {
	return &Run{e: e, id: strings.ToLower(rand.Text()[:8]), name: name}
}

// ID returns the run's id. It is part of the names of its containers and networks.
func (r *Run) ID() string { return r.id }

// labels returns those of the run, and more.
func (r *Run) labels(more map[string]string) map[string]string {
	l := map[string]string{LabelOurs: "1", LabelRun: r.id, LabelOwner: self().label(), LabelName: r.name}
	maps.Copy(l, more)
	return l
}

// filter selects what is the run's.
func (r *Run) filter() client.Filters { return label(LabelRun, r.id) }

// label selects what has a label of this value.
func label(name, value string) client.Filters { return client.Filters{}.Add("label", name+"="+value) }

// full returns the name of something of the run, as docker ps shows it.
func (r *Run) full(name string) string { return "gauntlet-" + r.id + "-" + name }

// Volume makes a volume of this very name, unless there is one. It outlives the run's Remove, so that its content stays
// from one start of a topology to the next: RemoveVolumes ends it, or Sweep when its owner died. One that a dead owner left
// is made anew, for Sweep may remove it at any time; one of an owner that may live is an error.
func (r *Run) Volume(ctx context.Context, name string, labels map[string]string) error {
	r.volumes.Lock()
	defer r.volumes.Unlock()
	ctx, cancel := lasting(ctx)
	defer cancel()
	for {
		got, err := r.e.api.VolumeCreate(ctx, client.VolumeCreateOptions{Name: name, Labels: r.labels(labels)})
		if err != nil {
			return fmt.Errorf("make the volume %s: %w", name, Plain(err))
		}
		// The engine returns one that exists as if it were new, with the labels that it was made with.
		owner := got.Volume.Labels[LabelOwner]
		if owner == self().label() {
			return nil
		}
		if o, err := parseOwner(owner); err != nil || !o.abandoned() {
			return fmt.Errorf("the volume %s is another process's, which may live: use a directory of volumes of your own, or remove the volume", name)
		}
		if err := r.e.removeVolume(ctx, name); err != nil {
			return fmt.Errorf("a process that is dead left it (remove what it left: gauntlet clean): %w", err)
		}
	}
}

// UnnamedVolume makes a volume of a node, unless there is one, and returns its name. It is what the engine's unnamed volumes are, and
// goes with the run, but a container that is made anew finds it again.
func (r *Run) UnnamedVolume(ctx context.Context, node string, i int) (string, error) {
	name := r.full(fmt.Sprintf("%s-volume-%d", node, i+1))
	return name, r.Volume(ctx, name, map[string]string{labelUnnamed: "1", LabelNode: node})
}

// RemoveUnnamedVolumes removes those of a node whose containers are gone.
func (r *Run) RemoveUnnamedVolumes(ctx context.Context, node string) error {
	return r.e.RemoveVolumes(ctx, map[string]string{LabelRun: r.id, labelUnnamed: "1", LabelNode: node})
}

// RemoveVolumes removes the volumes of ours that have all these labels. One that is still used stays, and is an error.
func (e *Engine) RemoveVolumes(ctx context.Context, labels map[string]string) error {
	if len(labels) == 0 {
		return errors.New("remove volumes: no labels were given, and all volumes have none")
	}
	f := label(LabelOurs, "1")
	for name, value := range labels {
		f.Add("label", name+"="+value)
	}
	found, err := e.listVolumes(ctx, f)
	errs := []error{err}
	for _, v := range found {
		errs = append(errs, e.removeVolume(ctx, v.name))
	}
	return errors.Join(errs...)
}

// listVolumes returns the volumes that a filter selects.
func (e *Engine) listVolumes(ctx context.Context, f client.Filters) (volumes []thing, err error) {
	found, err := e.api.VolumeList(ctx, client.VolumeListOptions{Filters: f})
	if err != nil {
		return nil, fmt.Errorf("list volumes: %w", Plain(err))
	}
	for _, v := range found.Items {
		volumes = append(volumes, thing{kind: "volume", id: v.Name, name: v.Name, labels: v.Labels})
	}
	return volumes, nil
}

// removeVolume removes a volume that may be gone already.
func (e *Engine) removeVolume(ctx context.Context, name string) error {
	if _, err := e.api.VolumeRemove(ctx, name, client.VolumeRemoveOptions{}); err != nil && !notThere(err) {
		return fmt.Errorf("remove the volume %s: %w", name, Plain(err))
	}
	return nil
}

// listTime bounds the look at what is left.
const listTime = 10 * time.Second

// Remove kills and removes the run's containers with their unnamed volumes, then its networks, and returns what is left
// of them all the same. It may be called again.
func (r *Run) Remove(ctx context.Context) (left []string, err error) {
	f := r.filter()
	unnamed := r.filter().Add("label", labelUnnamed+"=1")
	c, n, err := r.e.list(ctx, f)
	if err != nil {
		return nil, err
	}
	v, err := r.e.listVolumes(ctx, unnamed)
	errs := []error{err, r.e.remove(ctx, c, n)}
	for _, t := range v {
		errs = append(errs, r.e.removeVolume(ctx, t.name))
	}
	if err = errors.Join(errs...); err == nil && len(c)+len(n)+len(v) == 0 {
		return nil, nil
	}
	within, cancel := context.WithTimeout(context.WithoutCancel(ctx), listTime) // ctx may have ended over the removal
	defer cancel()
	c, n, listErr := r.e.list(within, f)
	v, volumesErr := r.e.listVolumes(within, unnamed)
	for _, t := range slices.Concat(c, n, v) {
		left = append(left, t.String())
	}
	return left, errors.Join(err, listErr, volumesErr)
}

// thing is a container, network or volume.
type thing struct {
	kind, id, name string
	labels         map[string]string
	joined         bool // a container that is on a network
}

func (t thing) String() string { return t.kind + " " + t.name }

// list returns the containers and networks that a filter selects.
func (e *Engine) list(ctx context.Context, f client.Filters) (containers, networks []thing, err error) {
	cs, err := e.api.ContainerList(ctx, client.ContainerListOptions{All: true, Filters: f})
	if err != nil {
		return nil, nil, fmt.Errorf("list containers: %w", Plain(err))
	}
	for _, c := range cs.Items {
		name := c.ID
		if len(c.Names) > 0 {
			name = strings.TrimPrefix(c.Names[0], "/")
		}
		mode := c.HostConfig.NetworkMode
		joined := mode != "none" && !strings.HasPrefix(mode, "container:")
		containers = append(containers, thing{kind: "container", id: c.ID, name: name, labels: c.Labels, joined: joined})
	}
	ns, err := e.api.NetworkList(ctx, client.NetworkListOptions{Filters: f})
	if err != nil {
		return nil, nil, fmt.Errorf("list networks: %w", Plain(err))
	}
	for _, n := range ns.Items {
		networks = append(networks, thing{kind: "network", id: n.ID, name: n.Name, labels: n.Labels})
	}
	return containers, networks, nil
}

// remove removes containers, several at a time, and then networks, which go only when nothing is on them. Containers that share
// another's network go first.
func (e *Engine) remove(ctx context.Context, containers, networks []thing) error {
	errs := make([]error, len(containers)+len(networks))
	for _, joined := range []bool{false, true} {
		var g errgroup.Group
		g.SetLimit(8) // the engine does them one by one beyond this
		for i, c := range containers {
			if c.joined == joined {
				g.Go(func() error { errs[i] = e.removeContainer(ctx, c); return nil })
			}
		}
		_ = g.Wait() // errors are in errs: one that fails must not hinder the rest
	}
	for i, n := range networks {
		if _, err := e.api.NetworkRemove(ctx, n.id, client.NetworkRemoveOptions{}); err != nil && !notThere(err) {
			errs[len(containers)+i] = fmt.Errorf("remove the network %s: %w", n.name, Plain(err))
		}
	}
	return errors.Join(errs...)
}

// removeContainer kills and removes a container that may be gone already, with its unnamed volumes.
//
// Those that are on a network go one by one. Docker before 28.1 counts what is on a network without a lock that holds from reading to
// writing: of three that leave it at once one may not be counted, and then the network stays until the engine is started again. Of 24 at
// once one was not in 3 rounds of 40, one by one in none of 80. Pods whose harness was killed end by themselves, and one by one too (see
// the agent's lingers), but not beside a sweep that begins meanwhile.
func (e *Engine) removeContainer(ctx context.Context, c thing) error {
	if c.joined {
		select {
		case e.leaving <- struct{}{}:
			defer func() { <-e.leaving }()
		case <-ctx.Done():
			return fmt.Errorf("remove the container %s: others leave its network: %w", c.name, ctx.Err())
		}
	}
	_, err := e.api.ContainerRemove(ctx, c.id, client.ContainerRemoveOptions{Force: true, RemoveVolumes: true})
	if err != nil && strings.Contains(err.Error(), "is already in progress") {
		return e.awaitGone(ctx, c.id, c.name) // another removes it: a list would still show it
	}
	if err != nil && !notThere(err) {
		return fmt.Errorf("remove the container %s: %w", c.name, Plain(err))
	}
	return nil
}

// awaitGone waits until a container that is being removed is gone.
func (e *Engine) awaitGone(ctx context.Context, id, name string) error {
	return poll(ctx, func() (bool, error) {
		_, err := e.api.ContainerInspect(ctx, id, client.ContainerInspectOptions{})
		if notThere(err) {
			return true, nil
		}
		if err != nil {
			return false, fmt.Errorf("wait until the container %s is removed: %w", name, Plain(err))
		}
		return false, nil
	})
}
