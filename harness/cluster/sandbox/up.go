package sandbox

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"

	"github.com/hasvc/gauntlet/harness/cluster"
	"github.com/hasvc/gauntlet/harness/cluster/supervise"
)

// makers is how many nodes are made at a time: more only wait for the kernel's lock on network namespaces.
const makers = 2

// Up implements cluster.Driver.
func (Driver) Up(ctx context.Context, spec *cluster.Spec, opt cluster.Options) (cluster.Cluster, error) {
	ids, err := machineIDs()
	if err != nil {
		return nil, err
	}
	if err := check(spec, ids); err != nil {
		return nil, err
	}
	if opt, err = supervise.Absolute(opt); err != nil {
		return nil, err
	}
	c, err := newCarrier(ctx, spec, opt, ids)
	if err != nil {
		return nil, advised(err)
	}
	t, err := supervise.Up(ctx, c, supervise.Config{Spec: spec, Options: opt, Makers: makers, StartDetail: c.startDetail})
	if err != nil {
		return nil, advised(err)
	}
	return t, nil
}

// check says everything that is wrong with a spec, before anything starts.
func check(spec *cluster.Spec, ids idSpace) error {
	return supervise.Check(spec, func(s *cluster.Service) (errs []error) {
		if !filepath.IsAbs(s.Argv0) {
			errs = append(errs, fmt.Errorf("its program %q is not an absolute path; it was not built", s.Argv0))
		}
		if _, err := ids.identify(s.User); err != nil {
			errs = append(errs, err)
		}
		return errs
	})
}

// advised adds what to do to an error that has the mark of a stage: something that this machine forbids.
func advised(err error) error {
	s := stageOf(err)
	if !slices.ContainsFunc(stages, func(known Stage) bool { return known.Name == s }) {
		return err
	}
	return fmt.Errorf("%w\n%s; \"gauntlet doctor\" tries each stage of the start", err, remedy(s, err))
}
