package main

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"sekisho/internal/access"
	"sekisho/internal/config"
	"sekisho/internal/securitygroup"
)

// configName is what the configuration is called beside the program.
const configName = "sekisho.yaml"

// reaper looks for what is past its end.
type reaper struct {
	*access.Access
	places []securitygroup.Place
	log    *slog.Logger
}

func newReaper(cfg *config.Config, log *slog.Logger) (*reaper, error) {
	r := &reaper{log: log, Access: &access.Access{
		Config: cfg,
		Cloud:  securitygroup.Open(securitygroup.Options{Accounts: cfg.AWS.Accounts, Endpoint: cfg.AWS.Endpoint, Person: "sekisho-reaper"}),
	}}
	r.places = r.Places()
	if len(r.places) == 0 {
		region := cmp.Or(os.Getenv("AWS_REGION"), os.Getenv("AWS_DEFAULT_REGION"))
		if region == "" {
			return nil, errors.New("no region to look at: the configuration names no target, and AWS_REGION is not set")
		}
		r.places = []securitygroup.Place{{Region: region}}
	}
	for name, account := range cfg.AWS.Accounts {
		if account.Profile != "" {
			return nil, fmt.Errorf("aws.accounts.%s names the profile %q, and a function has no profiles: have it assume a role (`role: arn:aws:iam::…`), or leave the profile out of this copy of the configuration", name, account.Profile)
		}
	}
	return r, nil
}

// configuration is the text in SEKISHO_CONFIG, else the file beside the program. Where
// there is neither, the function looks after the region that it is in.
func configuration() (_ *config.Config, from string, _ error) {
	if text := os.Getenv("SEKISHO_CONFIG"); strings.TrimSpace(text) != "" {
		cfg, err := config.Parse("SEKISHO_CONFIG", []byte(text))
		return cfg, "SEKISHO_CONFIG", err
	}
	path := filepath.Join(os.Getenv("LAMBDA_TASK_ROOT"), configName)
	cfg, err := config.Load(path)
	if errors.Is(err, fs.ErrNotExist) {
		return config.Default(), "none", nil
	}
	return cfg, path, err
}

// hinted is err, and what to do about it.
func hinted(err error, hint string) error {
	if hint == "" {
		return err
	}
	return fmt.Errorf("%w; %s", err, hint)
}

// refuse tells Lambda, and whoever reads the log, why there is no function.
func refuse(log *slog.Logger, err error) {
	const advice = "mend the configuration (`sekisho config check sekisho.yaml`), then deploy the function again"
	log.Error("the function cannot begin", "error", err, "hint", advice)
	body, _ := json.Marshal(struct { // strings are always text to JSON
		Message string   `json:"errorMessage"`
		Type    string   `json:"errorType"`
		Trace   []string `json:"stackTrace"`
	}{err.Error() + "; " + advice, "Sekisho.Configuration", []string{}})
	client := &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{}} // never by a proxy
	request, err := http.NewRequest(http.MethodPost, "http://"+os.Getenv("AWS_LAMBDA_RUNTIME_API")+"/2018-06-01/runtime/init/error", bytes.NewReader(body))
	if err != nil {
		log.Error("tell Lambda", "error", err)
		return
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Lambda-Runtime-Function-Error-Type", "Sekisho.Configuration")
	reply, err := client.Do(request)
	if err != nil {
		log.Error("tell Lambda", "error", err)
		return
	}
	_ = reply.Body.Close()
}
