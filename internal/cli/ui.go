package cli

import (
	"encoding/json"
	"errors"
	"fmt"

	"sekisho/internal/config"
)

// ui owns how we speak to people.
type ui struct{ g *globals }

func newUI(g *globals) *ui { return &ui{g} }

// errTold is an error that was told already: it has an exit code, and no text.
var errTold = errors.New("told already")

// fail prints an error, and its hint on a line of its own.
func (u *ui) fail(err error) {
	if errors.Is(err, errTold) {
		return
	}
	var wrong config.Errors
	if errors.As(err, &wrong) { // they name their file and have hints of their own
		fmt.Fprintf(u.g.stderr, "%v\n", wrong)
		return
	}
	fmt.Fprintf(u.g.stderr, "sekisho: %v\n", err)
	var h *hintError
	if errors.As(err, &h) {
		fmt.Fprintf(u.g.stderr, "hint: %s\n", h.hint)
	}
}

// json prints v as one line of JSON.
func (u *ui) json(v any) error { return json.NewEncoder(u.g.stdout).Encode(v) }
