package main

import (
	"crypto/rand"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

const (
	crowdsecAPI = "127.0.0.1:8080"
	crowdsecHub = "/usr/share/crowdsec/hub" // Debian's snapshot, which needs no network
)

// crowdsecScenario is the hub's ssh-bf with the thresholds of all the others: a
// bucket that the fifth failure overflows and that runs empty in 600 s. The hub's
// own overflows at the sixth within a minute.
const crowdsecScenario = `type: leaky
name: bench/ssh-bf
description: "five failures"
filter: "evt.Meta.log_type == 'ssh_failed-auth'"
leakspeed: 150s
capacity: %d
groupby: evt.Meta.source_ip
blackhole: 1m
reprocess: true
labels: {service: ssh, type: bruteforce, remediation: true}
`

const crowdsecProfile = `name: default_ip_remediation
filters: ["Alert.Remediation == true && Alert.GetScope() == 'Ip'"]
decisions: [{type: ban, duration: 1h}]
on_success: break
`

// crowdsecConfig is the packaged one, but for paths, the Central API, which is
// left out, and how many alerts are kept: 5,000 are fewer than our bans. %[1]s is
// our directory.
const crowdsecConfig = `common: {daemonize: false, log_media: file, log_level: info, log_dir: %[1]s/, working_dir: .}
config_paths:
  config_dir: %[1]s/etc/
  data_dir: %[1]s/data/
  simulation_path: /etc/crowdsec/simulation.yaml
  hub_dir: %[2]s/
  index_path: %[2]s/.index.json
  notification_dir: %[1]s/etc/notifications/
  plugin_dir: /usr/lib/crowdsec/plugins/
crowdsec_service: {acquisition_path: %[1]s/etc/acquis.yaml, parser_routines: 1}
db_config: {log_level: info, type: sqlite, db_path: %[1]s/data/crowdsec.db, use_wal: true, flush: {max_items: 50000, max_age: 7d}}
plugin_config: {user: nobody, group: nogroup}
api:
  client: {insecure_skip_verify: false, credentials_path: %[1]s/etc/local_api_credentials.yaml}
  server:
    log_level: info
    listen_uri: %[3]s
    profiles_path: %[1]s/etc/profiles.yaml
    console_path: %[1]s/etc/console.yaml
    trusted_ips: [127.0.0.1, "::1"]
prometheus: {enabled: true, level: full, listen_addr: 127.0.0.1, listen_port: 6060}
`

// crowdsecBouncer is laid over the packaged configuration, which asks every 10 s.
const crowdsecBouncer = `mode: nftables
api_key: %[2]s
update_frequency: 1s
daemonize: false
pid_dir: %[1]s/
log_dir: %[1]s/
`

// layCrowdSec writes a configuration with the parsers of the hub's sshd collection,
// and registers its agent and its bouncer with its own API, as the packages do.
func layCrowdSec(dir, log string) error {
	etc := filepath.Join(dir, "etc")
	for _, d := range []string{"parsers/s00-raw", "parsers/s01-parse", "parsers/s02-enrich", "scenarios", "../data"} {
		if err := os.MkdirAll(filepath.Join(etc, d), 0o700); err != nil {
			return err
		}
	}
	links := map[string]string{"patterns": "/etc/crowdsec/patterns"}
	for _, parser := range []string{"s00-raw/%ssyslog-logs.yaml", "s01-parse/%ssshd-logs.yaml", "s02-enrich/%sdateparse-enrich.yaml", "s02-enrich/%swhitelists.yaml"} {
		links["parsers/"+fmt.Sprintf(parser, "")] = crowdsecHub + "/parsers/" + fmt.Sprintf(parser, "crowdsecurity/")
	}
	for name, target := range links {
		if err := os.Symlink(target, filepath.Join(etc, name)); err != nil {
			return err
		}
	}
	bouncer, err := os.ReadFile("/etc/crowdsec/bouncers/crowdsec-firewall-bouncer.yaml")
	if err != nil {
		return err
	}
	key, password := rand.Text(), rand.Text()
	for name, text := range map[string]string{
		"config.yaml":                fmt.Sprintf(crowdsecConfig, dir, crowdsecHub, crowdsecAPI),
		"profiles.yaml":              crowdsecProfile,
		"scenarios/ssh-bf.yaml":      fmt.Sprintf(crowdsecScenario, maxRetry-1),
		"acquis.yaml":                fmt.Sprintf("filenames: [%q]\nlabels: {type: syslog}\n", log),
		"local_api_credentials.yaml": "",
		"bouncer.yaml":               string(bouncer),
		"bouncer.yaml.local":         fmt.Sprintf(crowdsecBouncer, dir, key),
	} {
		if err := os.WriteFile(filepath.Join(etc, name), []byte(text), 0o600); err != nil {
			return err
		}
	}
	for _, args := range [][]string{
		{"machines", "add", "bench", "--force", "--password", password},
		{"bouncers", "add", "bench", "-k", key, "-o", "raw"},
	} {
		out, err := exec.Command("cscli", append([]string{"-c", filepath.Join(etc, "config.yaml")}, args...)...).CombinedOutput()
		if err != nil {
			return fmt.Errorf("cscli %s %s: %w: %s", args[0], args[1], err, lastLine(string(out)))
		}
	}
	return nil
}

// prepareCrowdSec is the agent with its local API, and the firewall bouncer that
// asks it.
func prepareCrowdSec(_ *bench, dir, log string) ([]service, error) {
	if err := layCrowdSec(dir, log); err != nil {
		return nil, err
	}
	return []service{
		{args: []string{"crowdsec", "-c", filepath.Join(dir, "etc", "config.yaml")}, listens: crowdsecAPI},
		{args: []string{"crowdsec-firewall-bouncer", "-c", filepath.Join(dir, "etc", "bouncer.yaml")}},
	}, nil
}

// readCrowdSec is its replay of a file.
func readCrowdSec(_ *bench, dir, log string) ([]string, bool, error) {
	if os.Geteuid() != 0 {
		return nil, false, fmt.Errorf("its API listens on %s, which wants a network namespace, and so root", crowdsecAPI)
	}
	if err := layCrowdSec(dir, log); err != nil {
		return nil, false, err
	}
	return []string{"crowdsec", "-c", filepath.Join(dir, "etc", "config.yaml"), "-dsn", "file://" + log, "-type", "syslog"}, false, nil
}
