package httpwire

import (
	"encoding/binary"
	"fmt"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

const frameHead = 9

// frame is the head of a frame of HTTP/2 (RFC 9113 4.1).
type frame struct {
	length int
	kind   http2.FrameType
	flags  http2.Flags
	stream uint32
}

func parseFrame(b []byte) frame {
	return frame{
		length: int(b[0])<<16 | int(b[1])<<8 | int(b[2]),
		kind:   http2.FrameType(b[3]), flags: http2.Flags(b[4]),
		stream: binary.BigEndian.Uint32(b[5:]) &^ (1 << 31),
	}
}

func appendFrame(b []byte, kind http2.FrameType, flags http2.Flags, stream uint32, payload []byte) []byte {
	n := len(payload)
	b = append(b, byte(n>>16), byte(n>>8), byte(n), byte(kind), byte(flags))
	return append(binary.BigEndian.AppendUint32(b, stream), payload...)
}

// maxControl bounds the frames other than header blocks that are read whole.
const maxControl = 64 << 10

// frames cuts one direction of a connection into frames. Those whose content matters are kept until they are whole.
type frames struct {
	head []byte
	at   frame
	left int // of the payload
	body []byte
}

// whole says of which kinds the payload matters.
func whole(k http2.FrameType) bool {
	switch k {
	case http2.FrameHeaders, http2.FrameContinuation, http2.FramePushPromise, http2.FrameSettings, http2.FrameRSTStream,
		http2.FrameGoAway, http2.FrameWindowUpdate:
		return true
	}
	return false
}

// piece is what next found.
type piece struct {
	frame
	begins bool   // the frame's head is whole
	ends   bool   // the payload is
	body   []byte // the payload of a frame that is kept whole, when it ends
	raw    []byte // the payload's bytes of one that is not, as they come
}

// next takes bytes and returns how many, and what they were. Each call returns at most one piece; ok is false when
// more is needed for one.
func (f *frames) next(b []byte) (n int, p piece, ok bool, why string) {
	if len(f.head) < frameHead {
		n = min(len(b), frameHead-len(f.head))
		if f.head = append(f.head, b[:n]...); len(f.head) < frameHead {
			return n, p, false, ""
		}
		f.at = parseFrame(f.head)
		f.left = f.at.length
		if whole(f.at.kind) && f.left > maxControl {
			return n, p, false, fmt.Sprintf("a frame of type %v is longer than 64 KiB", f.at.kind)
		}
		p = piece{frame: f.at, begins: true}
		if f.left == 0 {
			f.head, p.ends = f.head[:0], true
		}
		return n, p, true, ""
	}
	n = min(len(b), f.left)
	f.left -= n
	p.frame = f.at
	if whole(f.at.kind) {
		f.body = append(f.body, b[:n]...)
	} else {
		p.raw = b[:n]
	}
	if f.left == 0 {
		p.ends, p.body = true, f.body
		f.head, f.body = f.head[:0], nil
		return n, p, true, ""
	}
	return n, p, p.raw != nil, ""
}

// block gathers the header block of a HEADERS or PUSH_PROMISE frame and its continuations.
type block struct {
	on       bool // continuations are due
	first    frame
	prefix   []byte // what stands before the block: priority, or the promised stream
	fragment []byte
}

// take adds a frame. whole is true when the block is.
func (k *block) take(p piece) (whole bool, why string) {
	body := p.body
	if p.kind == http2.FrameContinuation {
		if !k.on || p.stream != k.first.stream {
			return false, "a frame continues no header block"
		}
	} else {
		if p.stream == 0 {
			return false, "a header block is of no stream"
		}
		pad := 0
		if p.flags.Has(http2.FlagHeadersPadded) { // the same bit in PUSH_PROMISE
			if len(body) == 0 {
				return false, "a frame is shorter than its padding"
			}
			pad, body = int(body[0]), body[1:]
		}
		prefix := 0
		switch {
		case p.kind == http2.FramePushPromise:
			prefix = 4
		case p.flags.Has(http2.FlagHeadersPriority):
			prefix = 5
		}
		if prefix+pad > len(body) {
			return false, "a frame is shorter than its padding"
		}
		*k = block{on: true, first: p.frame, prefix: body[:prefix:prefix]}
		body = body[prefix : len(body)-pad]
	}
	if len(k.fragment)+len(body) > maxBlock {
		return false, "a header block is longer than 256 KiB"
	}
	k.fragment = append(k.fragment, body...)
	if p.flags.Has(http2.FlagHeadersEndHeaders) { // the same bit in all three
		k.on = false
		return true, ""
	}
	return false, ""
}

// endsStream says that no frame of the stream comes after the block.
func (k *block) endsStream() bool {
	return k.first.kind == http2.FrameHeaders && k.first.flags.Has(http2.FlagHeadersEndStream)
}

// decoder reads the header blocks of one direction. Each has to pass through it, whoever it is for: they share a table.
type decoder struct {
	d    *hpack.Decoder
	most uint32 // the largest table that the receiver has allowed so far
}

func newDecoder() *decoder {
	const byDefault = 4096
	d := &decoder{d: hpack.NewDecoder(byDefault, nil), most: byDefault}
	d.d.SetMaxStringLength(maxBlock)
	return d
}

// allow hears that the receiver of the blocks allows a table of so many bytes.
func (d *decoder) allow(n uint32) {
	if n = min(n, maxTable); n > d.most {
		d.most = n
		d.d.SetAllowedMaxDynamicTableSize(n)
	}
}

func (d *decoder) read(fragment []byte, emit func(hpack.HeaderField)) (why string) {
	d.d.SetEmitFunc(emit)
	_, err := d.d.Write(fragment)
	if err == nil {
		err = d.d.Close()
	}
	if err != nil {
		return "a header block cannot be read: " + err.Error()
	}
	return ""
}

// settings calls f for each entry of a SETTINGS frame.
func settings(p piece, f func(id http2.SettingID, value uint32)) {
	if p.flags.Has(http2.FlagSettingsAck) {
		return
	}
	for b := p.body; len(b) >= 6; b = b[6:] {
		f(http2.SettingID(binary.BigEndian.Uint16(b)), binary.BigEndian.Uint32(b[2:]))
	}
}
