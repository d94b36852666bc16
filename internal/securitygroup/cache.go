package securitygroup

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"

	"sekisho/internal/durable"
)

// kept are temporary credentials that outlive the process, as AWS's own command line keeps
// them: whoever connects ten times in an hour assumes a role once. They are in a file that
// the owner alone may read.
type kept struct {
	aws.CredentialsProvider
	path string
}

// keptEarly is how long before their end they are of no use to another process.
const keptEarly = 5 * time.Minute

// keep has the credentials of inner kept, if there is a folder for them. what names all that
// they depend on.
func (c *Cloud) keep(inner aws.CredentialsProvider, what ...string) aws.CredentialsProvider {
	if c.options.Cache == "" {
		return inner
	}
	sum := sha256.Sum256(fmt.Appendf(nil, "%q", what))
	return kept{inner, filepath.Join(c.options.Cache, fmt.Sprintf("credentials-%x", sum[:8]))}
}

func (k kept) Retrieve(ctx context.Context) (aws.Credentials, error) {
	var got aws.Credentials
	if raw, err := os.ReadFile(k.path); err == nil && json.Unmarshal(raw, &got) == nil && got.HasKeys() && time.Until(got.Expires) > keptEarly {
		return got, nil
	}
	got, err := k.CredentialsProvider.Retrieve(ctx)
	if err != nil || !got.CanExpire {
		return got, err
	}
	if raw, err := json.Marshal(got); err == nil {
		k.sweep()
		_ = durable.Replace(k.path, raw, nil) // the next process gets them anew then
	}
	return got, nil
}

// sweep takes away what has ended of those that are kept.
func (k kept) sweep() {
	files, err := filepath.Glob(filepath.Join(filepath.Dir(k.path), "credentials-*"))
	if err != nil {
		return
	}
	for _, path := range files {
		var c aws.Credentials
		if raw, err := os.ReadFile(path); err == nil && (json.Unmarshal(raw, &c) != nil || time.Now().After(c.Expires)) {
			_ = os.Remove(path) // the next one does
		}
	}
}

// drop takes them away: AWS does not take them.
func (k kept) drop() error {
	if err := os.Remove(k.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
