package daemon

import (
	"log/slog"
	"path/filepath"

	"sekisho/internal/config"
	"sekisho/internal/landlock"
)

// confine has files written below folders alone, and where cfg keeps the gate's state.
// What a reload adds elsewhere, or to be started, waits for the next start.
func confine(cfg *config.Config, log *slog.Logger, folders ...string) {
	if serve := cfg.Gate.Serve; serve != nil && filepath.IsAbs(serve.Database) {
		folders = append(folders, filepath.Dir(serve.Database))
	}
	// AWS's credentials may come from a program (credential_process).
	others := cfg.Notify.Command != nil || len(cfg.Targets)+len(cfg.AWS.Accounts) > 0
	landlock.Confine(log, others, folders...)
}
