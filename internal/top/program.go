package top

import (
	"context"
	"errors"
	"io"

	tea "charm.land/bubbletea/v2"
)

// framesPerSecond bounds how often the terminal is written to: a key shows within
// that time, and nothing is written where nothing changed.
const framesPerSecond = 30

// Run shows a host on a terminal until somebody leaves or ctx ends. What changed from
// one picture to the next is all that is written.
func Run(ctx context.Context, host Host, options Options, in io.Reader, out io.Writer, environ []string) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	program := tea.NewProgram(New(ctx, host, options),
		tea.WithContext(ctx), tea.WithInput(in), tea.WithOutput(out), tea.WithEnvironment(environ),
		tea.WithFPS(framesPerSecond), tea.WithoutSignalHandler())
	_, err := program.Run()
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		return nil // somebody ended us
	}
	return err
}

// View is the screen as bubbletea takes it.
func (m *Model) View() tea.View {
	text, cursor := m.draw()
	v := tea.NewView(text)
	v.AltScreen = true
	if cursor >= 0 {
		v.Cursor = tea.NewCursor(cursor, max(0, m.height-1))
	}
	return v
}
