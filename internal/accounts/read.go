package accounts

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"time"
)

const (
	maxAccounts = 10000
	maxFile     = 1 << 20 // of a file of users, and of keys
	readers     = 8       // accounts whose keys are read at once
	// keyTime is how long one account's key files may take: a home on a server that is
	// gone hangs.
	keyTime = time.Second
)

// Read reads all accounts, by name. What could not be seen is told by the accounts; the
// error is for when there is nothing at all. It runs for a second or so beyond the end
// of ctx at most.
func Read(ctx context.Context, o Options) ([]Account, error) {
	tree, err := openTree(o.Root)
	if err != nil {
		return nil, err
	}
	defer tree.close()
	users, groups, err := readUsers(ctx, tree)
	if err != nil {
		return nil, err
	}
	shadow, shadowErr := readShadow(tree)
	all := make([]Account, 0, len(users))
	members := groups.byMember()
	for _, u := range users {
		a := Account{Name: u.name, UID: u.uid, GID: u.gid, Home: u.home, Shell: u.shell}
		a.Groups = groups.of(u, members)
		a.Login = lets(tree, u.shell)
		u.hash(&a)
		if s, ok := shadow[u.name]; ok && u.shadowed() {
			s.fill(&a, time.Now())
		} else if u.shadowed() && shadowErr == nil && tree.host && u.foreign {
			a.Password = PasswordUnknown // another source of NSS has it
		}
		all = append(all, a)
	}
	readRoots(ctx, tree, all)
	readKeys(ctx, tree, o, groups, all)
	slices.SortFunc(all, func(a, b Account) int { return strings.Compare(a.Name, b.Name) })
	return all, nil
}

// readKeys reads every account's key files, some at once. An account that takes too
// long gets a Problem and is left behind.
func readKeys(ctx context.Context, tree *tree, o Options, groups groups, all []Account) {
	patterns := o.KeyFiles
	if len(patterns) == 0 {
		patterns = []string{".ssh/authorized_keys", ".ssh/authorized_keys2"}
	}
	next := make(chan *Account)
	var workers sync.WaitGroup
	for range readers {
		workers.Go(func() {
			for a := range next {
				done := make(chan found, 1)
				// A goroutine of its own: where the file system hangs, it stays behind alone.
				copied, gids := *a, groups.numbers(a.Groups)
				release := tree.hold()
				go func() {
					defer release()
					done <- keysOf(tree, copied, gids, patterns, o.StrictModes)
				}()
				timer := time.NewTimer(cmp.Or(o.keyTime, keyTime))
				select {
				case f := <-done:
					a.Keys, a.Problems = f.keys, append(a.Problems, f.problems...)
				case <-timer.C:
					a.Problems = append(a.Problems, Problem{File: a.Home, What: "does not answer", Unseen: true})
				}
				timer.Stop()
			}
		})
	}
	for i := range all {
		if ctx.Err() != nil {
			all[i].Problems = append(all[i].Problems, Problem{File: all[i].Home, What: "there was no time to look", Unseen: true})
			continue
		}
		next <- &all[i]
	}
	close(next)
	workers.Wait()
}

// noLogin are shells that let nobody in, by their last name.
var noLogin = map[string]bool{"nologin": true, "false": true, "true": true, "sync": true, "shutdown": true, "halt": true}

// lets reports whether shell lets somebody in. sshd refuses one that is not there or
// not executable (auth.c, allowed_user); an empty one is /bin/sh.
func lets(tree *tree, shell string) bool {
	if shell == "" {
		shell = "/bin/sh"
	}
	if noLogin[shell[strings.LastIndexByte(shell, '/')+1:]] {
		return false
	}
	mode, err := tree.mode(shell)
	if errors.Is(err, os.ErrPermission) {
		return true
	}
	return err == nil && mode.IsRegular() && mode.Perm()&0o111 != 0
}

// wrap says what was being read.
func wrap(what string, err error) error { return fmt.Errorf("read %s: %w", what, err) }
