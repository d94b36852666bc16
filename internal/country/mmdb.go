package country

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/oschwald/maxminddb-golang/v2"

	"sekisho/internal/printable"
)

// readMMDB reads the format MMDB.
func (b *Builder) readMMDB(in io.Reader) (Info, error) {
	content, err := io.ReadAll(io.LimitReader(in, maxMMDB+1))
	switch {
	case err != nil:
		return Info{}, cutOff(err)
	case len(content) > maxMMDB:
		return Info{}, fmt.Errorf("the file has more than %d MiB when unpacked", maxMMDB>>20)
	case !bytes.Contains(content, []byte("\xab\xcd\xefMaxMind.com")):
		return Info{}, errors.New("this is neither text nor an MMDB file, or it is cut off")
	}
	db, err := maxminddb.OpenBytes(content)
	if err != nil {
		return Info{}, mmdbError(err)
	}
	defer db.Close()
	info := Info{Format: MMDB, Time: db.Metadata.BuildTime().UTC()}
	codes := make(map[uintptr]Code) // records are shared by many networks; a zero Code: nobody's
	for result := range db.Networks() {
		if err := result.Err(); err != nil {
			return Info{}, mmdbError(err)
		}
		code, seen := codes[result.Offset()]
		if !seen {
			if len(codes) >= maxEntries {
				return Info{}, fmt.Errorf("more than %d records", maxEntries)
			}
			if code, err = recordCode(result); err != nil {
				return Info{}, mmdbError(err)
			}
			codes[result.Offset()] = code
		}
		if code == (Code{}) {
			if info.Skipped++; info.Skipped > maxEntries {
				return Info{}, fmt.Errorf("more than %d networks without a country", maxEntries)
			}
			continue
		}
		if err := b.addPrefix(code, result.Prefix()); err != nil {
			return Info{}, err
		}
		info.Entries++
	}
	return info, nil
}

// mmdbError makes the library's error fit to be told: it quotes the file.
func mmdbError(err error) error {
	text := printable.Text(err.Error())
	if len(text) > 200 {
		text = text[:200] + "..."
	}
	return fmt.Errorf("read MMDB: %s", text)
}

// recordCode is the country of a record, wherever its maker puts it.
func recordCode(r maxminddb.Result) (Code, error) {
	for _, path := range [][]any{{"country", "iso_code"}, {"country_code"}} {
		var s string
		if err := r.DecodePath(&s, path...); err != nil {
			return Code{}, err
		}
		if s != "" {
			code, _, err := parseDataCode(s)
			return code, err
		}
	}
	return Code{}, nil
}
