package cli

import (
	"encoding/json"
	"errors"
	"fmt"
)

// ui owns how we speak to people.
type ui struct{ g *globals }

func newUI(g *globals) *ui { return &ui{g} }

// fail prints an error, and its hint on a line of its own.
func (u *ui) fail(err error) {
	fmt.Fprintf(u.g.stderr, "sekisho: %v\n", err)
	var h *hintError
	if errors.As(err, &h) {
		fmt.Fprintf(u.g.stderr, "hint: %s\n", h.hint)
	}
}

// json prints v as one line of JSON.
func (u *ui) json(v any) error { return json.NewEncoder(u.g.stdout).Encode(v) }
