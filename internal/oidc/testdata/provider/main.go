// Command provider is an OpenID Connect provider of zitadel/oidc with its own login page, for the
// tests of package oidc: on loopback alone, with two people, one of them in groups. It tells its
// issuer on its standard output, and ends with its standard input.
//
//	provider REDIRECT-URL
package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"

	"github.com/zitadel/oidc/v3/example/server/exampleop"
	"github.com/zitadel/oidc/v3/example/server/storage"
	"github.com/zitadel/oidc/v3/pkg/oidc"
)

type people map[string]*storage.User

func (p people) GetUserByID(id string) *storage.User { return p[id] }

func (p people) GetUserByUsername(name string) *storage.User {
	for _, u := range p {
		if u.Username == name {
			return u
		}
	}
	return nil
}

func (p people) ExampleClientID() string { return "service" }

// store tells people's groups too, where user info is asked for.
type store struct{ *storage.Storage }

func (s store) SetUserinfoFromToken(ctx context.Context, info *oidc.UserInfo, token, subject, origin string) error {
	if err := s.Storage.SetUserinfoFromToken(ctx, info, token, subject, origin); err != nil {
		return err
	}
	if subject == "id1" {
		info.AppendClaims("groups", []string{"ops", "dev"})
	}
	return nil
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "provider:", err)
		os.Exit(1)
	}
}

func run() error {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	issuer := fmt.Sprintf("http://127.0.0.1:%d/", listener.Addr().(*net.TCPAddr).Port)
	storage.RegisterClients(storage.WebClient("web", "secret", os.Args[1]), storage.NativeClient("native", os.Args[1]))
	all := people{
		"id1": {ID: "id1", Username: "hanako", Password: "verysecure", FirstName: "Hanako", LastName: "Yamada", Email: "hanako@example.com", EmailVerified: true},
		"id2": {ID: "id2", Username: "ichiro", Password: "verysecure", FirstName: "Ichiro", LastName: "Suzuki", Email: "ichiro@example.com"},
	}
	handler := exampleop.SetupServer(issuer, store{storage.NewStorage(all)}, slog.New(slog.NewTextHandler(os.Stderr, nil)), false)
	go func() {
		io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}()
	fmt.Println(issuer)
	return http.Serve(listener, handler)
}
