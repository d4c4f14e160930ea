package plane

import (
	"container/heap"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hasvc/gauntlet/harness/cluster"
	"golang.org/x/sys/unix"
)

// queue holds packets back. The kernel keeps the packets; this end is told that one came, of which link by its mark,
// and says when it may go on.
//
// It is one locked thread with a raw netlink socket that sleeps in ppoll: Go's timers are a millisecond late, and
// libraries for netfilter's queue lose packets at 50,000 a second.
type queue struct {
	sock int
	wake int // an eventfd
	done sync.WaitGroup

	delays atomic.Pointer[delays]
	stop   atomic.Bool
	ended  chan struct{}
	fail   error // why the thread ended by itself; valid after ended

	held     atomic.Int64 // packets waiting now
	received atomic.Uint64
	drained  atomic.Uint64 // how often nothing was left to be received
}

// delays says what holds on which link. It is never changed, only replaced.
type delays struct {
	of      map[uint32][]*delayRule // by mark
	applied chan struct{}           // closed when packets held before have been reconsidered
}

// delayRule is a delay on one link. What it holds besides its parameters belongs to the queue's thread.
type delayRule struct {
	delay  cluster.Delay
	stream uint64
	met    atomic.Uint64 // packets that came under it; others may read it

	started bool
	first   uint64 // number of the link's packet that was the rule's first
}

// packet is a packet that the kernel holds.
type packet struct {
	id   uint32 // the kernel's
	mark uint32
	n    uint64        // of its link, from 0
	seq  uint64        // of the queue: packets due at once leave as they came
	came time.Duration // on the queue's clock
	due  time.Duration
}

type packets []packet

func (p packets) Len() int { return len(p) }
func (p packets) Less(i, j int) bool {
	return p[i].due < p[j].due || p[i].due == p[j].due && p[i].seq < p[j].seq
}
func (p packets) Swap(i, j int) { p[i], p[j] = p[j], p[i] }
func (p *packets) Push(x any)   { *p = append(*p, x.(packet)) }
func (p *packets) Pop() any {
	o := *p
	x := o[len(o)-1]
	*p = o[:len(o)-1]
	return x
}

func newQueue() (q *queue, err error) {
	sock, err := openQueue()
	if err != nil {
		return nil, fmt.Errorf("plane: opening the packet queue (nfnetlink_queue): %w", err)
	}
	wake, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("plane: opening the packet queue: %w", err), unix.Close(sock))
	}
	q = &queue{sock: sock, wake: wake, ended: make(chan struct{})}
	q.delays.Store(&delays{applied: make(chan struct{})})
	q.done.Go(func() {
		defer close(q.ended)
		q.run()
	})
	return q, nil
}

// set replaces the delays of links, and returns when packets held now have got the due time of the rules that hold
// now: with their link's delay gone they have left, in order. One goroutine at a time may call it.
func (q *queue) set(change map[uint32][]*delayRule) {
	old := q.delays.Load()
	next := &delays{of: make(map[uint32][]*delayRule, len(old.of)+len(change)), applied: make(chan struct{})}
	maps.Copy(next.of, old.of)
	for m, rs := range change {
		if len(rs) == 0 {
			delete(next.of, m)
		} else {
			next.of[m] = rs
		}
	}
	q.delays.Store(next)
	q.rouse()
	select {
	case <-next.applied:
	case <-q.ended:
	}
}

// missingTime is how long a packet that the filter has counted may be on its way to the queue: the processor may be taken
// away from it in between.
const missingTime = time.Second

// await waits until count is 0, or will not change by what is on its way, and returns it: packets that are to come and have
// not been received.
func (q *queue) await(count func() uint64) uint64 {
	drained, end := q.drained.Load()+1, time.Now().Add(missingTime) // one may have been under way already
	for {
		n := count()
		if n == 0 {
			return 0
		}
		over := q.drained.Load() > drained
		select {
		case <-q.ended:
			over = true
		default:
		}
		if over && time.Now().After(end) {
			return n
		}
		q.rouse()
		time.Sleep(time.Millisecond)
	}
}

func (q *queue) rouse() {
	one := binary.NativeEndian.AppendUint64(nil, 1)
	_, _ = unix.Write(q.wake, one) // full means that it is awake
}

// close lets every packet go.
func (q *queue) close() error {
	q.stop.Store(true)
	q.rouse()
	q.done.Wait()
	return errors.Join(q.fail, unix.Close(q.sock), unix.Close(q.wake))
}

// thread is what the queue's thread has for itself.
type thread struct {
	*queue
	start time.Time
	waits packets
	count map[uint32]uint64 // packets that came, by mark
	seq   uint64
	in    []byte
	out   []byte
}

func (q *queue) run() {
	runtime.LockOSThread() // not unlocked: what punctual sets dies with the thread
	punctual()
	t := &thread{queue: q, start: time.Now(), count: map[uint32]uint64{}, in: make([]byte, 1<<16), out: make([]byte, 0, 1<<14)}
	var known *delays
	for {
		now := q.delays.Load()
		if now != known {
			t.reconsider(now.of)
		}
		stop := q.stop.Load()
		for stop && t.receive() > 0 { // or the kernel drops what was not asked for
		}
		t.release(stop)
		if now != known {
			known = now
			close(now.applied)
		}
		if stop {
			return
		}
		if err := t.sleep(); err != nil {
			q.fail = fmt.Errorf("plane: waiting for packets: %w", err)
			return
		}
		t.receive()
	}
}

// punctual has the kernel wake this thread in time, also on a busy machine. It sleeps most of the time.
func punctual() {
	_ = unix.Prctl(unix.PR_SET_TIMERSLACK, 1, 0, 0, 0) // the default is 50 µs
	// As root. What the thread might start does not inherit it.
	rr := unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_RR, Priority: 1, Flags: unix.SCHED_FLAG_RESET_ON_FORK}
	if unix.SchedSetAttr(0, &rr, 0) != nil {
		_ = unix.Setpriority(unix.PRIO_PROCESS, unix.Gettid(), -10) // some users may do that much
	}
}

func (t *thread) now() time.Duration { return time.Since(t.start) }

// reconsider gives packets that wait the due time of the rules that hold now.
func (t *thread) reconsider(links map[uint32][]*delayRule) {
	for i := range t.waits {
		p := &t.waits[i]
		p.due = p.came + total(links[p.mark], p.n, false)
	}
	heap.Init(&t.waits)
}

// total is the delay of packet n of a link. A rule starts with the first packet that comes under it.
func total(rules []*delayRule, n uint64, arriving bool) time.Duration {
	var sum time.Duration
	for _, r := range rules {
		if arriving {
			r.met.Add(1)
		}
		if arriving && !r.started {
			r.started, r.first = true, n
		}
		if r.started && n >= r.first {
			sum += delayOf(r.delay, r.stream, n-r.first)
		}
	}
	return sum
}

// release lets packets go whose time has come, or all.
func (t *thread) release(all bool) {
	now := t.now()
	for len(t.waits) > 0 && (all || t.waits[0].due <= now) {
		p := heap.Pop(&t.waits).(packet)
		t.out = appendVerdict(t.out, p.id)
		if len(t.out) > 8000 {
			t.flush()
		}
	}
	t.flush()
	t.held.Store(int64(len(t.waits)))
}

func (t *thread) flush() {
	if len(t.out) == 0 {
		return
	}
	for {
		err := unix.Sendto(t.sock, t.out, 0, kernel)
		if err != unix.EINTR && err != unix.EAGAIN && err != unix.ENOBUFS {
			break // a packet that is gone (its device was removed) needs no verdict
		}
	}
	t.out = t.out[:0]
}

func (t *thread) sleep() error {
	var timeout *unix.Timespec
	if len(t.waits) > 0 {
		ts := unix.NsecToTimespec(int64(max(t.waits[0].due-t.now(), 0)))
		timeout = &ts
	}
	fds := []unix.PollFd{{Fd: int32(t.sock), Events: unix.POLLIN}, {Fd: int32(t.wake), Events: unix.POLLIN}}
	if _, err := unix.Ppoll(fds, timeout, nil); err != nil && err != unix.EINTR {
		return err
	}
	if fds[1].Revents != 0 {
		var b [8]byte
		_, _ = unix.Read(t.wake, b[:])
	}
	return nil
}

// receive takes in what has come, but not for so long that a due packet waits. It returns how many messages it got.
func (t *thread) receive() int {
	for got := range 64 {
		n, _, err := unix.Recvfrom(t.sock, t.in, unix.MSG_DONTWAIT)
		if err != nil {
			t.drained.Add(1)
			return got
		}
		now, rules := t.now(), t.delays.Load().of
		eachMessage(t.in[:n], func(typ uint16, body []byte) {
			if typ != packetMessage {
				return
			}
			id, mark, ok := parsePacket(body)
			if !ok {
				return
			}
			n := t.count[mark]
			t.count[mark] = n + 1
			t.seq++
			t.received.Add(1)
			due := now + total(rules[mark], n, true)
			heap.Push(&t.waits, packet{id: id, mark: mark, n: n, seq: t.seq, came: now, due: due})
		})
	}
	return 64
}
