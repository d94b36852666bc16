// Package journal writes slog's records to systemd's journal by its native protocol
// (https://systemd.io/JOURNAL_NATIVE_PROTOCOL): every attribute is a field of its own,
// so that what others wrote is data there, and never a part of a message. Whoever
// logs never waits for the journal. It imports nothing of ours but printable.
package journal

import (
	"bytes"
	"context"
	"encoding"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"sekisho/internal/printable"
)

// Socket is where the journal listens.
const Socket = "/run/systemd/journal/socket"

const (
	maxWaiting = 1 << 20         // bytes of entries that wait
	lastWords  = 2 * time.Second // for what waits at the end
	// A datagram takes net.core.wmem_default at most, 208 KiB by default; an entry is
	// far from that.
	maxValue  = 4 << 10
	maxFields = 32
	maxError  = 300 // columns of an error in a message
	maxName   = 64  // journald refuses longer names of fields
)

// IsStream reports whether f is what JOURNAL_STREAM names, systemd.exec(5): a stream
// to the journal.
func IsStream(value string, f *os.File) bool {
	var stat unix.Stat_t
	if value == "" || f == nil || unix.Fstat(int(f.Fd()), &stat) != nil {
		return false
	}
	return value == strconv.FormatUint(uint64(stat.Dev), 10)+":"+strconv.FormatUint(stat.Ino, 10)
}

// Options say how a Handler writes. Fallback is needed.
type Options struct {
	Socket     string       // "": Socket
	Identifier string       // SYSLOG_IDENTIFIER, and in capitals what attributes' fields begin with
	Level      slog.Leveler // nil: Info
	Fallback   slog.Handler // what the journal does not take
}

// Handler is a slog.Handler. An entry has MESSAGE, PRIORITY (syslog's), SYSLOG_IDENTIFIER
// and, for the identifier sekisho, SEKISHO_EVENT, which is the record's message alone,
// and SEKISHO_NAME for each attribute, all of it. What people read, MESSAGE, is the
// record's message, those attributes that are numbers, times or addresses, and errors,
// quoted: no text that others could choose. Safe for concurrent use.
type Handler struct {
	*writer
	level  slog.Leveler
	prefix string // of fields: "SEKISHO_", and groups
	fields []field
}

type field struct{ name, value string }

// writer sends entries behind the back of those who log.
type writer struct {
	options Options
	socket  string
	wake    chan struct{}
	done    chan struct{}

	mu      sync.Mutex
	waiting []entry
	size    int
	lost    int
	closed  bool
}

type entry struct {
	data   []byte
	record slog.Record // for the fallback
}

// Open makes a Handler; an error says why the journal cannot be written to. Close it.
func Open(options Options) (*Handler, error) {
	w := &writer{options: options, socket: options.Socket, wake: make(chan struct{}, 1), done: make(chan struct{})}
	if w.socket == "" {
		w.socket = Socket
	}
	conn, err := w.dial()
	if err != nil {
		return nil, fmt.Errorf("open the journal: %w", err)
	}
	level := options.Level
	if level == nil {
		level = slog.LevelInfo
	}
	go w.run(conn)
	return &Handler{writer: w, level: level, prefix: fieldName(options.Identifier) + "_"}, nil
}

func (w *writer) dial() (*net.UnixConn, error) {
	return net.DialUnix("unixgram", nil, &net.UnixAddr{Name: w.socket, Net: "unixgram"})
}

// Enabled implements slog.Handler.
func (h *Handler) Enabled(_ context.Context, level slog.Level) bool { return level >= h.level.Level() }

// WithAttrs implements slog.Handler.
func (h *Handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	with := *h
	with.fields = append([]field(nil), h.fields...)
	for _, a := range attrs {
		with.fields = appendAttr(with.fields, h.prefix, a, nil)
	}
	return &with
}

// WithGroup implements slog.Handler.
func (h *Handler) WithGroup(name string) slog.Handler {
	if name == "" {
		return h
	}
	with := *h
	with.prefix += fieldName(name) + "_"
	return &with
}

// Handle takes one record; it never fails and never waits.
func (h *Handler) Handle(_ context.Context, r slog.Record) error {
	var text strings.Builder
	text.WriteString(printable.Text(r.Message))
	fields := append([]field(nil), h.fields...)
	r.Attrs(func(a slog.Attr) bool {
		fields = appendAttr(fields, h.prefix, a, &text)
		return true
	})
	var b bytes.Buffer
	base := fieldName(h.options.Identifier)
	for _, f := range []field{
		{"MESSAGE", text.String()}, {"PRIORITY", priority(r.Level)}, {"SYSLOG_IDENTIFIER", h.options.Identifier},
		{base + "_EVENT", r.Message},
	} {
		writeField(&b, f)
	}
	for i, f := range fields {
		if i == maxFields {
			break
		}
		writeField(&b, f)
	}
	kept := r.Clone()
	for _, f := range h.fields {
		kept.AddAttrs(slog.String(strings.ToLower(strings.TrimPrefix(f.name, base+"_")), f.value))
	}
	h.mu.Lock()
	if h.size+b.Len() > maxWaiting {
		h.lost++
	} else {
		h.waiting = append(h.waiting, entry{data: b.Bytes(), record: kept})
		h.size += b.Len()
	}
	h.mu.Unlock()
	h.signal()
	return nil
}

func (w *writer) signal() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// run sends what waits. A journal that is started anew is dialled again; what it does
// not take goes to the fallback.
func (w *writer) run(conn *net.UnixConn) {
	defer close(w.done)
	defer func() {
		if conn != nil {
			conn.Close()
		}
	}()
	send := func(e entry) bool {
		for range 2 {
			if conn == nil {
				var err error
				if conn, err = w.dial(); err != nil {
					conn = nil
					return false
				}
			}
			_, err := conn.Write(e.data)
			if err == nil {
				return true
			}
			if errors.Is(err, unix.EMSGSIZE) {
				return false
			}
			conn.Close()
			conn = nil
		}
		return false
	}
	for range w.wake {
		w.mu.Lock()
		waiting, lost, closed := w.waiting, w.lost, w.closed
		w.waiting, w.size, w.lost = nil, 0, 0
		w.mu.Unlock()
		if lost > 0 {
			r := slog.NewRecord(time.Now(), slog.LevelWarn, "log entries were left out: they were not taken in time", 0)
			r.AddAttrs(slog.Int("entries", lost))
			waiting = append(waiting, w.plainEntry(r))
		}
		for _, e := range waiting {
			if !send(e) {
				_ = w.options.Fallback.Handle(context.Background(), e.record) // where could that be told
			}
		}
		if closed {
			return
		}
	}
}

// plainEntry is an entry of a record without attributes of others.
func (w *writer) plainEntry(r slog.Record) entry {
	var b bytes.Buffer
	writeField(&b, field{"MESSAGE", r.Message})
	writeField(&b, field{"PRIORITY", priority(r.Level)})
	writeField(&b, field{"SYSLOG_IDENTIFIER", w.options.Identifier})
	return entry{data: b.Bytes(), record: r}
}

// Close sends what waits, if it is taken soon.
func (w *writer) Close() {
	w.mu.Lock()
	w.closed = true
	w.mu.Unlock()
	w.signal()
	select {
	case <-w.done:
	case <-time.After(lastWords):
	}
}

// priority is a level as syslog(3) has it.
func priority(level slog.Level) string {
	switch {
	case level >= slog.LevelError:
		return "3"
	case level >= slog.LevelWarn:
		return "4"
	case level >= slog.LevelInfo:
		return "6"
	}
	return "7"
}

// appendAttr adds a's fields; and its text to a message, where no others could have
// chosen it.
func appendAttr(fields []field, prefix string, a slog.Attr, message *strings.Builder) []field {
	v := a.Value.Resolve()
	if v.Kind() == slog.KindGroup {
		if a.Key != "" {
			prefix += fieldName(a.Key) + "_"
		}
		for _, in := range v.Group() {
			fields = appendAttr(fields, prefix, in, message)
		}
		return fields
	}
	if a.Key == "" {
		return fields
	}
	text, ours := valueText(v)
	if message != nil && ours != "" {
		message.WriteString(" " + printable.Text(a.Key) + "=" + ours)
	}
	name := prefix + fieldName(a.Key)
	return append(fields, field{name[:min(len(name), maxName)], text})
}

// valueText is a value as text, and as a message may have it; "": not at all.
func valueText(v slog.Value) (text, ours string) {
	switch v.Kind() {
	case slog.KindString:
		return v.String(), ""
	case slog.KindTime:
		text = v.Time().Format(time.RFC3339Nano)
		return text, text
	case slog.KindAny:
	default: // numbers, durations, true and false
		return v.String(), v.String()
	}
	switch x := v.Any().(type) {
	case netip.Addr, netip.Prefix, netip.AddrPort:
		text = fmt.Sprint(x)
		return text, printable.Text(text) // an address has a zone
	case error:
		text = x.Error()
		return text, `"` + printable.Cut(strings.ReplaceAll(printable.Text(text), `"`, "'"), maxError) + `"`
	case encoding.TextMarshaler:
		if b, err := x.MarshalText(); err == nil {
			return string(b), ""
		}
	}
	return fmt.Sprintf("%+v", v.Any()), ""
}

// fieldName makes a name that journald takes: capitals, digits, underscores.
func fieldName(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z':
			return r - 'a' + 'A'
		case r >= 'A' && r <= 'Z', r >= '0' && r <= '9':
			return r
		}
		return '_'
	}, s)
}

// writeField writes one field: on a line, or where it holds line ends, with its length.
func writeField(b *bytes.Buffer, f field) {
	value := f.value[:min(len(f.value), maxValue)]
	b.WriteString(f.name)
	if !strings.Contains(value, "\n") {
		b.WriteByte('=')
	} else {
		b.WriteByte('\n')
		var size [8]byte
		binary.LittleEndian.PutUint64(size[:], uint64(len(value)))
		b.Write(size[:])
	}
	b.WriteString(value)
	b.WriteByte('\n')
}
