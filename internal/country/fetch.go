package country

import (
	"bytes"
	"context"
	"crypto/md5"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"regexp"
	"strings"
	"time"
)

// Source is where country data comes from. All of its files are needed.
type Source struct {
	Name   string
	Format Format // that the files must have; empty: any
	Files  []File
}

// File is one file of a source.
type File struct {
	URLs     []string // mirrors, https, in the order in which they are asked
	Checksum bool     // there may be a sibling with .md5 at the end of its name
}

// registries are the five, as they call themselves in their files.
var registries = [...]string{"afrinic", "apnic", "arin", "lacnic", "ripencc"}

// Registries is the default source: the statistics of the five registries, each
// from itself, or else from another one that mirrors it.
func Registries() Source {
	s := Source{Name: "the five registries' statistics", Format: Delegated}
	for _, r := range []struct{ name, home, mirror string }{
		{"afrinic", "ftp.afrinic.net", "ftp.ripe.net"},
		{"apnic", "ftp.apnic.net", "ftp.ripe.net"},
		{"arin", "ftp.arin.net", "ftp.ripe.net"},
		{"lacnic", "ftp.lacnic.net", "ftp.ripe.net"},
		{"ripencc", "ftp.ripe.net", "ftp.arin.net"},
	} {
		path := "/pub/stats/" + r.name + "/delegated-" + r.name + "-extended-latest"
		s.Files = append(s.Files, File{URLs: []string{"https://" + r.home + path, "https://" + r.mirror + path}, Checksum: true})
	}
	return s
}

// Bounds of a download.
const (
	maxDownload = 64 << 20 // bytes of a file as it comes
	fileTime    = 10 * time.Minute
	idleTime    = time.Minute // without a byte
)

// fetcher gets files.
type fetcher struct {
	client    *http.Client
	allowHTTP bool // without TLS, from this very machine
}

func newFetcher(client *http.Client, allowHTTP bool) *fetcher {
	f := &fetcher{allowHTTP: allowHTTP}
	if client == nil {
		client = &http.Client{Transport: &http.Transport{
			Proxy:                 http.ProxyFromEnvironment,
			DialContext:           (&net.Dialer{Timeout: 30 * time.Second}).DialContext,
			TLSHandshakeTimeout:   30 * time.Second,
			ResponseHeaderTimeout: idleTime,
			DisableCompression:    true, // what is packed twice is counted once
			ForceAttemptHTTP2:     true,
			IdleConnTimeout:       idleTime,
		}}
	}
	own := *client
	own.CheckRedirect = func(req *http.Request, via []*http.Request) error {
		if len(via) >= 5 {
			return errors.New("more than 5 redirects")
		}
		return f.allowed(req.URL)
	}
	f.client = &own
	return f
}

// allowed says why u may not be fetched.
func (f *fetcher) allowed(u *url.URL) error {
	if u.Scheme == "https" && u.Host != "" {
		return nil
	}
	if u.Scheme == "http" && f.allowHTTP {
		if a, err := netip.ParseAddr(u.Hostname()); err == nil && a.IsLoopback() {
			return nil
		}
	}
	return fmt.Errorf("%s is not https", u.Redacted())
}

// answer is what came of asking for a file.
type answer struct {
	unchanged bool
	url       string
	seen      validator
	info      Info
	entries   *Builder
}

// file gets a file from the first mirror that has it whole and right. seen are the
// validators of what we have, by URL; nil: it is wanted in any case.
func (f *fetcher) file(ctx context.Context, want Format, file File, seen map[string]validator) (answer, error) {
	var errs []error
	for _, u := range file.URLs {
		a, err := f.mirror(ctx, want, u, file.Checksum, seen[u])
		if err == nil {
			return a, nil
		}
		errs = append(errs, fmt.Errorf("fetch %s: %w", u, err))
		if ctx.Err() != nil {
			break
		}
	}
	if len(errs) == 0 {
		return answer{}, errors.New("a file of the source has no address")
	}
	return answer{}, errors.Join(errs...)
}

func (f *fetcher) mirror(ctx context.Context, want Format, address string, checksum bool, seen validator) (answer, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, fileTime, fmt.Errorf("not done within %s", fileTime))
	defer cancel()
	res, err := f.open(ctx, address, seen)
	if err != nil {
		return answer{}, err
	}
	defer res.Body.Close()
	if res.StatusCode == http.StatusNotModified {
		return answer{unchanged: true, url: address, seen: seen}, nil
	}
	limited := &limitedReader{r: res.Body, left: maxDownload, sum: md5.New()}
	entries := new(Builder)
	info, err := entries.Read(limited)
	if err == nil && limited.err == nil {
		_, err = io.Copy(io.Discard, limited) // what gzip left of it
	}
	if err := errors.Join(limited.err, err); err != nil {
		if cause := context.Cause(ctx); cause != nil {
			return answer{}, cause
		}
		if limited.err != nil {
			return answer{}, limited.err
		}
		return answer{}, err
	}
	if want != "" && info.Format != want {
		return answer{}, fmt.Errorf("this is %s data, not %s", info.Format, want)
	}
	if checksum {
		if err := f.verify(ctx, address, limited.sum.Sum(nil)); err != nil {
			return answer{}, err
		}
	}
	return answer{
		url:     address,
		seen:    validator{ETag: res.Header.Get("ETag"), LastModified: res.Header.Get("Last-Modified")},
		info:    info,
		entries: entries,
	}, nil
}

// open asks for an address. The answer is a file, or that it is as it was seen;
// its body ends when no byte has come for idleTime.
func (f *fetcher) open(ctx context.Context, address string, seen validator) (*http.Response, error) {
	u, err := url.Parse(address)
	if err != nil {
		return nil, errors.New("it is not a URL")
	}
	if err := f.allowed(u); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		cancel(nil)
		return nil, err
	}
	req.Header.Set("User-Agent", "sekisho")
	if seen.ETag != "" {
		req.Header.Set("If-None-Match", seen.ETag)
	}
	if seen.LastModified != "" {
		req.Header.Set("If-Modified-Since", seen.LastModified)
	}
	idle := time.AfterFunc(idleTime, func() { cancel(fmt.Errorf("nothing came for %s", idleTime)) })
	res, err := f.client.Do(req)
	if err != nil {
		idle.Stop()
		cause := context.Cause(ctx)
		cancel(nil)
		if cause != nil {
			err = cause
		}
		if wrapped, ok := errors.AsType[*url.Error](err); ok {
			err = wrapped.Err // the address is told anyway
		}
		return nil, err
	}
	res.Body = &idleBody{ctx: ctx, body: res.Body, idle: idle, cancel: cancel}
	asked := seen != validator{}
	if res.StatusCode == http.StatusOK || res.StatusCode == http.StatusNotModified && asked {
		return res, nil
	}
	res.Body.Close()
	return nil, &statusError{res.StatusCode}
}

// statusError is an answer that is no file.
type statusError struct{ code int }

func (e *statusError) Error() string {
	return fmt.Sprintf("the server answers %d %s", e.code, http.StatusText(e.code))
}

// idleBody is a body that must go on coming.
type idleBody struct {
	ctx    context.Context
	body   io.ReadCloser
	idle   *time.Timer
	cancel context.CancelCauseFunc
}

func (b *idleBody) Read(p []byte) (int, error) {
	n, err := b.body.Read(p)
	if n > 0 {
		b.idle.Reset(idleTime)
	}
	if err != nil && !errors.Is(err, io.EOF) {
		if cause := context.Cause(b.ctx); cause != nil {
			err = cause
		}
	}
	return n, err
}

func (b *idleBody) Close() error {
	b.idle.Stop()
	b.cancel(nil)
	return b.body.Close()
}

// limitedReader reads a bounded stream, and sums it up.
type limitedReader struct {
	r    io.Reader
	left int64
	sum  hash.Hash
	err  error // why it ended, but for its end
}

func (l *limitedReader) Read(p []byte) (int, error) {
	if l.err != nil {
		return 0, l.err
	}
	n, err := l.r.Read(p)
	l.sum.Write(p[:n])
	if l.left -= int64(n); l.left < 0 {
		n, err = 0, fmt.Errorf("it is larger than %d MiB", maxDownload>>20)
	}
	if err != nil && !errors.Is(err, io.EOF) {
		l.err = cutOff(err)
	}
	return n, err
}

// verify holds a file to the checksum beside it, where there is one. MD5 is what
// the registries offer; against forgery it is TLS that helps.
func (f *fetcher) verify(ctx context.Context, address string, sum []byte) error {
	res, err := f.open(ctx, address+".md5", validator{})
	if status, ok := errors.AsType[*statusError](err); ok && (status.code == http.StatusNotFound || status.code == http.StatusGone || status.code == http.StatusForbidden) {
		return nil // not offered
	}
	if err != nil {
		return fmt.Errorf("its checksum: %w", err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(io.LimitReader(res.Body, 4<<10))
	if err != nil {
		return fmt.Errorf("its checksum: %w", err)
	}
	want, err := parseMD5(text)
	if err != nil {
		return err
	}
	if !bytes.Equal(want, sum) {
		return fmt.Errorf("its checksum is %x, and should be %x", sum, want)
	}
	return nil
}

// parseMD5 reads a checksum file: the sum alone, or GNU's or BSD's form, whose
// names are left out of account (ARIN names the day's file).
func parseMD5(text []byte) ([]byte, error) {
	found := regexp.MustCompile(`(?i)\b[0-9a-f]{32}\b`).FindAll(text, 2)
	if len(found) != 1 {
		return nil, fmt.Errorf("its checksum file does not hold one checksum: %q", clip(strings.TrimSpace(string(text))))
	}
	return hex.DecodeString(string(found[0]))
}
