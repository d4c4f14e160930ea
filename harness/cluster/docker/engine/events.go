package engine

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/client"
)

// EventKind names what happened to a container.
type EventKind string

// The kinds of event.
const (
	Started   EventKind = "start"
	Died      EventKind = "die"
	OOM       EventKind = "oom"
	Healthy   EventKind = "health_status: healthy"
	Unhealthy EventKind = "health_status: unhealthy"
)

// Event is something that happened to a container of a run.
type Event struct {
	Kind       EventKind
	Container  string // id
	Node, Role string // of its labels
	Code       int    // Died: the exit status, 128 + n after signal n
	At         time.Time
	EngineTime time.Time // by the engine's clock
}

// eventBacklog is how many events may wait for the reader. The engine drops what nobody takes (1024 and 100 ms later),
// without a word.
const eventBacklog = 4096

// Events returns what happens to the run's containers from now on, in order. The reader must keep up. Both channels are
// closed when ctx ends, or after an error when the engine breaks the stream off (ErrEngineGone).
func (r *Run) Events(ctx context.Context) (<-chan Event, <-chan error) {
	out, errs := make(chan Event, eventBacklog), make(chan error, 1)
	fail := func(err error) {
		if ctx.Err() == nil {
			errs <- fmt.Errorf("follow the engine's events: %w", Plain(err))
		}
		close(out)
		close(errs)
	}
	// The engine answers before it has subscribed. So it is asked for everything since a time before that, by its own clock.
	since, err := r.e.now(ctx)
	if err != nil {
		fail(err)
		return out, errs
	}
	// It is not asked for pauses: where it is slow, it tells of each twice.
	f := r.filter().Add("type", string(events.ContainerEventType)).
		Add("event", "start", "die", "oom", "health_status")
	in := r.e.api.Events(ctx, client.EventsListOptions{Since: since.Format(time.RFC3339Nano), Filters: f})
	go func() {
		// What happens while it subscribes comes twice: once as past, once as present. A run has few events: all are kept.
		seen := map[string]bool{}
		for {
			select {
			case m := <-in.Messages:
				key := m.Actor.ID + string(m.Action) + strconv.FormatInt(m.TimeNano, 10)
				if ev, ok := read(m); ok && !seen[key] {
					seen[key] = true
					select {
					case out <- ev:
					case <-ctx.Done():
					}
				}
			case err := <-in.Err:
				fail(err)
				return
			}
		}
	}()
	return out, errs
}

// read returns an event in our form; some are of no use.
func read(m events.Message) (Event, bool) {
	ev := Event{
		Kind: EventKind(m.Action), Container: m.Actor.ID, At: time.Now(), EngineTime: time.Unix(0, m.TimeNano),
		Node: m.Actor.Attributes[LabelNode], Role: m.Actor.Attributes[LabelRole],
	}
	switch ev.Kind {
	case Died:
		ev.Code, _ = strconv.Atoi(m.Actor.Attributes["exitCode"]) // the engine always says it
	case Started, OOM, Healthy, Unhealthy:
	default:
		return Event{}, false
	}
	return ev, true
}
