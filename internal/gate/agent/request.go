package agent

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"time"

	"sekisho/internal/gate/api"
	"sekisho/internal/printable"
	"sekisho/internal/sshsig"
)

// client speaks to the gate alone: it follows nobody elsewhere, and unpacks nothing.
func (o *Options) client() (*http.Client, error) {
	conf := &tls.Config{MinVersion: tls.VersionTLS12}
	if o.CA != "" {
		text, err := os.ReadFile(o.CA)
		if err != nil {
			return nil, &Error{fmt.Errorf("read the gate's certificates: %w", err), "see gate.ca in the configuration"}
		}
		conf.RootCAs = x509.NewCertPool()
		if !conf.RootCAs.AppendCertsFromPEM(text) {
			return nil, advised("see gate.ca in the configuration", "there is no certificate in %s", o.CA)
		}
	}
	dial := o.Dial
	if dial == nil {
		dial = (&net.Dialer{Timeout: 10 * time.Second, KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 15 * time.Second, Interval: 10 * time.Second, Count: 3}}).DialContext
	}
	return &http.Client{
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{
			Proxy: http.ProxyFromEnvironment, DialContext: dial, TLSClientConfig: conf, ForceAttemptHTTP2: true, DisableCompression: true,
			TLSHandshakeTimeout: 10 * time.Second, ResponseHeaderTimeout: askWithin, IdleConnTimeout: 30 * time.Second,
			MaxIdleConnsPerHost: 1, MaxResponseHeaderBytes: 32 << 10, ReadBufferSize: 4 << 10, WriteBufferSize: 4 << 10,
		},
	}, nil
}

// request is one that the host's key has signed.
func (o *Options) request(ctx context.Context, method, path string, body []byte) (*http.Request, error) {
	q, err := o.plain(ctx, method, path, body)
	if err != nil {
		return nil, err
	}
	signed := api.Signed{Method: method, URL: o.URL + api.Version + path, Time: o.Now().UTC().Format(time.RFC3339), Nonce: rand.Text(), Body: body}
	armored, err := sshsig.Sign(o.Signer, api.HostNamespace, signed.Text())
	if err != nil {
		return nil, fmt.Errorf("sign with the host's key: %w", err)
	}
	s, err := sshsig.Parse(armored)
	if err != nil {
		return nil, fmt.Errorf("sign with the host's key: %w", err)
	}
	q.Header.Set(api.HeaderTime, signed.Time)
	q.Header.Set(api.HeaderNonce, signed.Nonce)
	q.Header.Set(api.HeaderSignature, base64.StdEncoding.EncodeToString(s.Marshal()))
	return q, nil
}

// plain is one that is not signed.
func (o *Options) plain(ctx context.Context, method, path string, body []byte) (*http.Request, error) {
	q, err := http.NewRequestWithContext(ctx, method, o.URL+api.Version+path, bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("ask the gate: %w", err)
	}
	q.Header.Set("User-Agent", "sekisho/"+o.Version)
	if len(body) > 0 {
		q.Header.Set("Content-Type", "application/json")
	}
	return q, nil
}

// errorOf is what an answer says that is not the one asked for: an *api.Error, fit to be
// shown, where it is a gate's.
func errorOf(res *http.Response) error {
	text, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	if err != nil {
		return fmt.Errorf("the gate answers %d: %w", res.StatusCode, err)
	}
	var e api.Error
	if json.Unmarshal(text, &e) != nil || e.Code == "" || e.Message == "" {
		return advised("see whether gate.url is a gate's, and what is in front of it", "what is at gate.url answers %d, and not as a gate does", res.StatusCode)
	}
	e.Message, e.Hint = "the gate says: "+line(e.Message, maxSaid), line(e.Hint, maxSaid)
	return &e
}

// drain reads what is left of an answer, so that its connection can be used again.
func drain(body io.Reader) error {
	_, err := io.Copy(io.Discard, io.LimitReader(body, maxAnswer))
	return err
}

// Enrol makes this host known to the gate, by a token that its administrator gave out. Of
// the options it needs URL, Signer and Version.
func Enrol(ctx context.Context, o Options, token string) (api.Host, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	if len(token) == 0 || len(token) > 256 || !printable.IsPlain(token) {
		return api.Host{}, advised("copy it anew: an administrator of the gate gets it where hosts are added", "this is no token of a gate")
	}
	ctx, cancel := context.WithTimeout(ctx, 2*askWithin)
	defer cancel()
	body, err := json.Marshal(api.EnrolRequest{Token: token, Version: o.Version})
	if err != nil {
		return api.Host{}, err
	}
	client, err := o.client()
	if err != nil {
		return api.Host{}, err
	}
	defer client.CloseIdleConnections()
	q, err := o.request(ctx, http.MethodPost, "/hosts/enrol", body)
	if err != nil {
		return api.Host{}, err
	}
	res, err := client.Do(q)
	if err != nil {
		return api.Host{}, &Error{fmt.Errorf("ask the gate: %w", err), "see that this host reaches gate.url, and gate.ca where its certificate is of your own making"}
	}
	defer res.Body.Close()
	if res.StatusCode/100 != 2 {
		return api.Host{}, errorOf(res)
	}
	var h api.Host
	if err := json.NewDecoder(io.LimitReader(res.Body, maxAnswer)).Decode(&h); err != nil || !plainName(h.Name) {
		return api.Host{}, errors.New("the gate's answer cannot be read")
	}
	return h, nil
}

func plainName(name string) bool {
	return len(name) > 0 && len(name) <= 253 && printable.IsPlain(name)
}
