package relay

import (
	"io"
	"net"
	"testing"
	"time"
)

// BenchmarkThroughput is what goes through in one direction, beside the connection alone
// and beside what io.Copy makes of the same files.
func BenchmarkThroughput(b *testing.B) {
	copies := func(conn *net.TCPConn, e ends) {
		go func() {
			_, _ = io.Copy(conn, e.in)
			_ = conn.CloseWrite()
		}()
		_, _ = io.Copy(e.out, conn)
		e.out.Close()
	}
	relays := func(b *testing.B) func(*net.TCPConn, ends) {
		return func(conn *net.TCPConn, e ends) {
			if _, err := Relay(b.Context(), conn, e.in, e.out); err != nil {
				b.Error(err)
			}
		}
	}
	for _, by := range []struct {
		name  string
		kind  int
		relay func(*net.TCPConn, ends) // nil: the connection alone
	}{
		{"direct", 0, nil},
		{"Relay between blocking pipes", 1, relays(b)},
		{"Relay between sockets", 2, relays(b)},
		{"io.Copy between pipes", 0, copies},
	} {
		for _, up := range []bool{true, false} {
			way := map[bool]string{true: "to the server", false: "from it"}[up]
			b.Run(by.name+"/"+way, func(b *testing.B) {
				client, server := pair(b)
				if err := server.SetDeadline(time.Time{}); err != nil {
					b.Fatal(err)
				}
				w, r := io.Writer(client), io.Reader(client)
				closeWriter := client.CloseWrite
				done := make(chan struct{})
				if by.relay != nil {
					e := kinds[by.kind].make(b)
					w, r, closeWriter = e.toIn, e.fromOut, func() error { e.shut(b); return nil }
					go func() {
						by.relay(client, e)
						close(done)
					}()
				} else {
					close(done)
				}
				read, closeRead := io.Reader(server), closeWriter
				if !up {
					w, read, closeRead = server, r, server.CloseWrite
				}
				chunk := make([]byte, 256<<10)
				b.SetBytes(int64(len(chunk)))
				b.ReportAllocs()
				got := make(chan int64)
				go func() {
					n, _ := io.CopyBuffer(onlyWriter{}, onlyReader{read}, make([]byte, 256<<10))
					got <- n
				}()
				b.ResetTimer()
				for range b.N {
					if _, err := w.Write(chunk); err != nil {
						b.Fatal(err)
					}
				}
				if err := closeRead(); err != nil {
					b.Fatal(err)
				}
				if n := <-got; n != int64(b.N)*int64(len(chunk)) {
					b.Errorf("%d bytes of %d came through", n, int64(b.N)*int64(len(chunk)))
				}
				b.StopTimer()
				if !up && by.relay != nil {
					_ = closeWriter()
				}
				server.Close()
				<-done
			})
		}
	}
}

type onlyReader struct{ io.Reader }

type onlyWriter struct{}

func (onlyWriter) Write(p []byte) (int, error) { return len(p), nil }

// BenchmarkEcho is a keystroke, and its echo.
func BenchmarkEcho(b *testing.B) {
	for _, by := range []struct {
		name  string
		relay bool
	}{{"direct", false}, {"Relay", true}} {
		b.Run(by.name, func(b *testing.B) {
			client, server := pair(b)
			if err := server.SetDeadline(time.Time{}); err != nil {
				b.Fatal(err)
			}
			go func() { _, _ = io.Copy(onlyWriterTo{server}, onlyReader{server}) }()
			w, r := io.Writer(client), io.Reader(client)
			if by.relay {
				e := kinds[1].make(b)
				w, r = e.toIn, e.fromOut
				done := start(b.Context(), client, e)
				defer func() {
					e.gone()
					await(b, done)
				}()
			}
			key := make([]byte, 52)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := w.Write(key); err != nil {
					b.Fatal(err)
				}
				if _, err := io.ReadFull(r, key); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

type onlyWriterTo struct{ w io.Writer }

func (o onlyWriterTo) Write(p []byte) (int, error) { return o.w.Write(p) }
