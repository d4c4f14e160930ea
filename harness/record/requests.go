package record

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strconv"
	"time"

	"github.com/mailru/easyjson/jlexer"
	vegeta "github.com/tsenart/vegeta/v12/lib"
)

// requestSink writes a load's two files. A gob stream carries the description of its type once, at its beginning, so
// a block that was lost spoils the rest: after the first failed write the rows of this load are dropped.
type requestSink struct {
	load              string
	wall              time.Time
	binPath, sidePath string

	bin, side *appendFile
	buf       bytes.Buffer // of the encoder
	encode    vegeta.Encoder
	line      []byte
	broken    error
}

func (s *requestSink) write(rows []Request) error {
	if s.broken == nil {
		s.broken = s.try(rows)
	}
	return s.broken
}

func (s *requestSink) try(rows []Request) (err error) {
	if s.bin == nil {
		if s.bin, err = createAppend(s.binPath); err != nil {
			return err
		}
		if s.side, err = createAppend(s.sidePath); err != nil {
			return err
		}
		s.encode = vegeta.NewEncoder(&s.buf)
	}
	s.buf.Reset()
	s.line = s.line[:0]
	for i := range rows {
		r := &rows[i]
		// Latency in vegeta's log counts from when the request was sent, as vegeta's own does; ours counts from the due
		// time, and that is in the sidecar.
		err := s.encode(&vegeta.Result{
			Attack: s.load, Seq: r.Seq, Code: uint16(r.Code), Timestamp: s.wall.Add(r.Sent), Latency: r.Done - r.Sent,
			BytesOut: r.BytesOut, BytesIn: r.BytesIn, Error: r.Error,
		})
		if err != nil {
			return fmt.Errorf("encoding a request of %s: %w", s.load, err)
		}
		s.line = appendSide(s.line, r)
	}
	if err := s.bin.append(s.buf.Bytes()); err != nil {
		return err
	}
	return s.side.append(s.line)
}

func (s *requestSink) close() error {
	var errs []error
	for _, f := range []*appendFile{s.bin, s.side} {
		if f != nil {
			errs = append(errs, f.f.Close())
		}
	}
	return errors.Join(errs...)
}

// appendSide appends a line of the sidecar. It is written by hand: encoding/json costs four times as much, and that
// on the cores that carry the load.
func appendSide(b []byte, r *Request) []byte {
	b = append(b, `{"due":`...)
	b = strconv.AppendInt(b, int64(r.Due), 10)
	b = append(b, `,"round":`...)
	b = strconv.AppendInt(b, int64(r.Round), 10)
	b = appendField(b, `,"phase":`, r.Phase)
	b = appendField(b, `,"request":`, r.Request)
	b = appendField(b, `,"id":`, r.ID)
	b = appendField(b, `,"node":`, r.Node)
	if r.OK {
		b = append(b, `,"ok":true`...)
	}
	b = appendField(b, `,"outcome":`, string(r.Outcome))
	if r.RetryAfter {
		b = append(b, `,"retryAfter":true`...)
	}
	if r.GRPC != nil {
		b = append(b, `,"grpc":`...)
		b = strconv.AppendInt(b, int64(*r.GRPC), 10)
	}
	return append(b, '}', '\n')
}

func appendField(b []byte, key, s string) []byte {
	if s == "" {
		return b
	}
	b = append(b, key...)
	for i := 0; i < len(s); i++ {
		if c := s[i]; c < ' ' || c > '~' || c == '"' || c == '\\' {
			q, err := json.Marshal(s)
			if err != nil { // a string always has an encoding
				return append(b, `""`...)
			}
			return append(b, q...)
		}
	}
	b = append(b, '"')
	b = append(b, s...)
	return append(b, '"')
}

// interner keeps one copy of each of the few strings that a million rows share.
type interner map[string]string

func (m interner) get(s string) string {
	if s == "" {
		return ""
	}
	if v, ok := m[s]; ok {
		return v
	}
	c := string([]byte(s)) // not the buffer that s may point into
	if len(m) < 1<<12 {
		m[c] = c
	}
	return c
}

// parseSide reads a line of the sidecar into r.
func parseSide(line []byte, r *Request, in interner) error {
	l := jlexer.Lexer{Data: line}
	l.Delim('{')
	for !l.IsDelim('}') {
		key := l.UnsafeFieldName(false)
		l.WantColon()
		switch key {
		case "due":
			r.Due = time.Duration(l.Int64())
		case "round":
			r.Round = l.Int()
		case "phase":
			r.Phase = in.get(l.UnsafeString())
		case "request":
			r.Request = in.get(l.UnsafeString())
		case "id":
			r.ID = l.String()
		case "node":
			r.Node = in.get(l.UnsafeString())
		case "ok":
			r.OK = l.Bool()
		case "outcome":
			r.Outcome = Ending(in.get(l.UnsafeString()))
		case "retryAfter":
			r.RetryAfter = l.Bool()
		case "grpc":
			code := l.Int()
			r.GRPC = &code
		default:
			l.SkipRecursive()
		}
		l.WantComma()
	}
	l.Delim('}')
	l.Consumed()
	return l.Error()
}

// readRequests reads a load's two files side by side. Rows that only one of them has, and all after the first that
// cannot be read, are dropped and counted: the two files are flushed one after the other.
func readRequests(binPath, sidePath string, wall time.Time, hint int) (rows []Request, torn int, err error) {
	bin, err := os.Open(binPath)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, 0, nil
	}
	if err != nil {
		return nil, 0, fmt.Errorf("reading the request log: %w", err)
	}
	defer bin.Close()
	side, err := os.Open(sidePath)
	if err != nil {
		return nil, 0, fmt.Errorf("reading the request log: %w", err)
	}
	defer side.Close()
	if st, err := side.Stat(); err == nil {
		rows = make([]Request, 0, min(hint, int(st.Size()/16))) // a line has 16 bytes or more
	}
	decode := vegeta.NewDecoder(bufio.NewReaderSize(bin, 1<<20))
	br := bufio.NewReaderSize(side, 1<<20)
	unread := func(err error) bool { return err != nil && err != io.EOF }
	in := interner{}
	var v vegeta.Result
	for {
		var r Request
		binErr := decodeResult(decode, &v, &r, wall, in)
		line, sideErr := readLine(br)
		if unread(sideErr) {
			return rows, 0, fmt.Errorf("reading the request log: %w", sideErr)
		}
		if sideErr == nil {
			sideErr = parseSide(line, &r, in)
		}
		if binErr == nil && sideErr == nil {
			rows = append(rows, r)
			continue
		}
		if binErr == io.EOF && sideErr == io.EOF {
			return rows, 0, nil
		}
		// What is left of the sidecar are requests too, of the log at least one.
		torn = 1
		for ; sideErr != io.EOF; torn++ {
			if _, sideErr = readLine(br); unread(sideErr) {
				return rows, torn, fmt.Errorf("reading the request log: %w", sideErr)
			}
		}
		return rows, max(1, torn-1), nil
	}
}

// decodeResult reads one of vegeta's results into r by way of v. gob is not made for hostile input, so its panics are errors here.
func decodeResult(decode vegeta.Decoder, v *vegeta.Result, r *Request, wall time.Time, in interner) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("decoding a result: %v", p)
		}
	}()
	*v = vegeta.Result{} // gob leaves out fields that are zero
	if err := decode(v); err != nil {
		return err
	}
	r.Seq, r.Code, r.Error = v.Seq, int(v.Code), in.get(v.Error)
	r.BytesIn, r.BytesOut = v.BytesIn, v.BytesOut
	r.Sent = v.Timestamp.Sub(wall)
	r.Done = r.Sent + v.Latency
	return nil
}

// readLine returns the next line without its end, or io.EOF after the last. The line is valid until the next call.
func readLine(r *bufio.Reader) ([]byte, error) {
	line, err := r.ReadSlice('\n')
	if errors.Is(err, bufio.ErrBufferFull) {
		long := append([]byte(nil), line...)
		for errors.Is(err, bufio.ErrBufferFull) {
			line, err = r.ReadSlice('\n')
			long = append(long, line...)
		}
		line = long
	}
	if len(line) == 0 && err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(line, []byte{'\n'}), nil
}
