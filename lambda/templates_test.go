package main

import (
	"maps"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/google/go-cmp/cmp"

	"sekisho/internal/access"
	"sekisho/internal/config"
)

// least is what a function's policy has to allow, by what `sekisho aws policy --for ROLE`
// and --callers print: the actions of each statement, by its Sid, and the keys of its
// conditions.
func least(t *testing.T, role access.Role) (actions, conditions map[string][]string) {
	t.Helper()
	cfg, err := config.Parse("test", []byte(inTwoAccounts("sg-0123456789abcdef0", "sg-0123456789abcdef1")))
	if err != nil {
		t.Fatal(err)
	}
	a := &access.Access{Config: cfg}
	policy, err := a.Policy("own", role)
	if err != nil {
		t.Fatal(err)
	}
	actions, conditions = map[string][]string{}, map[string][]string{}
	for _, s := range append(policy.Statement, a.Callers().Statement...) {
		actions[s.Sid] = slices.Sorted(slices.Values(s.Action))
		conditions[s.Sid] = nil
		for test, keys := range s.Condition {
			for key, values := range keys {
				if key == "ec2:Region" {
					values = []string{"the regions"}
				}
				conditions[s.Sid] = append(conditions[s.Sid], test+" "+key+" "+strings.Join(values, " "))
			}
		}
		slices.Sort(conditions[s.Sid])
	}
	return actions, conditions
}

// some is a value of YAML that may be a list.
func some(v any) (words []string) {
	switch v := v.(type) {
	case string:
		return []string{v}
	case []any:
		for _, w := range v {
			words = append(words, some(w)...)
		}
	}
	return words
}

func TestCloudFormation(t *testing.T) {
	tests := []struct {
		file       string
		role       access.Role
		properties map[string]map[string]any
	}{
		{"cloudformation.yaml", access.RoleReaper, map[string]map[string]any{
			"Function": {"Runtime": "provided.al2023", "Handler": "bootstrap"},
			"Schedule": {"ScheduleExpression": "rate(1 minute)", "State": "ENABLED"},
			"Alarm":    {"MetricName": "Errors", "Namespace": "AWS/Lambda", "TreatMissingData": "breaching"},
		}},
		{"gate/cloudformation.yaml", access.RoleGate, map[string]map[string]any{
			"Function":           {"Runtime": "provided.al2023", "Handler": "bootstrap"},
			"Url":                {"AuthType": "NONE"},
			"AnybodyMayAsk":      {"Action": "lambda:InvokeFunctionUrl", "FunctionUrlAuthType": "NONE"},
			"AnybodyMayAskByUrl": {"Action": "lambda:InvokeFunction", "InvokedViaFunctionUrl": true},
			"Integration":        {"PayloadFormatVersion": "2.0"},
			"Stage":              {"StageName": "$default"},
			"Glass":              {"FilterPattern": `{ $.audit.what = "open.break_glass" }`},
		}},
	}
	for _, test := range tests {
		t.Run(test.file, func(t *testing.T) { checkCloudFormation(t, test.file, test.role, test.properties) })
	}
}

func checkCloudFormation(t *testing.T, file string, role access.Role, properties map[string]map[string]any) {
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var template struct {
		Resources map[string]struct {
			Type       string         `yaml:"Type"`
			Properties map[string]any `yaml:"Properties"`
		} `yaml:"Resources"`
	}
	if err := yaml.Unmarshal(raw, &template); err != nil {
		t.Fatal(err)
	}
	var statements []any
	for _, p := range template.Resources["Role"].Properties["Policies"].([]any) {
		statements = append(statements, p.(map[string]any)["PolicyDocument"].(map[string]any)["Statement"].([]any)...)
	}
	statements = append(statements, template.Resources["RolesOfOthers"].Properties["PolicyDocument"].(map[string]any)["Statement"].([]any)...)
	actions, conditions := map[string][]string{}, map[string][]string{}
	for _, s := range statements {
		s := s.(map[string]any)
		sid := s["Sid"].(string)
		if sid == "Log" {
			continue
		}
		actions[sid], conditions[sid] = slices.Sorted(slices.Values(some(s["Action"]))), nil
		tests, _ := s["Condition"].(map[string]any)
		for test, keys := range tests {
			for key, values := range keys.(map[string]any) {
				if key == "ec2:Region" {
					if some(values)[0] != "Regions" {
						t.Errorf("%s is for %v", sid, values)
					}
					if sid != "Look" { // those of the others are bound to the regions by their resources
						continue
					}
					values = "the regions"
				}
				conditions[sid] = append(conditions[sid], test+" "+key+" "+strings.Join(some(values), " "))
			}
		}
		slices.Sort(conditions[sid])
	}
	wantActions, wantConditions := least(t, role)
	if diff := cmp.Diff(wantActions, actions); diff != "" {
		t.Errorf("actions (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(wantConditions, conditions); diff != "" {
		t.Errorf("conditions (-want +got):\n%s", diff)
	}
	for resource, want := range properties {
		for key, value := range want {
			if got := template.Resources[resource].Properties[key]; got != value {
				t.Errorf("%s.%s is %v, want %v", resource, key, got, value)
			}
		}
	}
	if template.Resources["Log"].Properties["RetentionInDays"] == nil {
		t.Error("the log is kept for ever")
	}
	if linter, err := exec.LookPath("cfn-lint"); err != nil {
		t.Log("cfn-lint is not there: the template's types are NOT CHECKED")
	} else if out, err := exec.CommandContext(t.Context(), linter, file).CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
}

var (
	statement = regexp.MustCompile(`^"(\w+)"\n\s+actions += \[([^]]*)\]`) // after its `sid = `
	condition = regexp.MustCompile(`(?s)test += "([^"]+)"\s+variable += "([^"]+)"\s+values += ([^\n]+)`)
	quoted    = regexp.MustCompile(`"([^"]+)"`)
	variable  = regexp.MustCompile(`\bvar\.(\w+)`)
	declared  = regexp.MustCompile(`(?m)^variable "(\w+)"`)
	resource  = regexp.MustCompile(`(?m)^resource "(\w+)"`)
)

func words(text string) (words []string) {
	for _, m := range quoted.FindAllStringSubmatch(text, -1) {
		words = append(words, m[1])
	}
	return words
}

func TestTerraform(t *testing.T) {
	tests := []struct {
		file, name string
		role       access.Role
		kinds      []string
		texts      []string
	}{
		{"terraform.tf", "reaper", access.RoleReaper,
			[]string{"aws_lambda_function", "aws_lambda_permission", "aws_iam_role", "aws_cloudwatch_event_rule", "aws_cloudwatch_event_target", "aws_cloudwatch_metric_alarm", "aws_cloudwatch_log_group"},
			[]string{`"rate(1 minute)"`, `"provided.al2023"`, `"bootstrap"`, `"Errors"`}},
		{"gate/terraform.tf", "gate", access.RoleGate,
			[]string{"aws_lambda_function", "aws_lambda_permission", "aws_lambda_function_url", "aws_apigatewayv2_api", "aws_apigatewayv2_stage", "aws_iam_role", "aws_cloudwatch_metric_alarm", "aws_cloudwatch_log_group"},
			[]string{`"provided.al2023"`, `"bootstrap"`, `"Throttles"`, `"$default"`, `authorization_type = "NONE"`, "invoked_via_function_url = true", "reserved_concurrent_executions = var.concurrency", `\"open.break_glass\"`}},
	}
	for _, test := range tests {
		t.Run(test.file, func(t *testing.T) { checkTerraform(t, test.file, test.name, test.role, test.kinds, test.texts) })
	}
}

func checkTerraform(t *testing.T, file, name string, role access.Role, wantKinds, wantTexts []string) {
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	text := string(raw)
	actions, conditions := map[string][]string{}, map[string][]string{}
	_, policy, _ := strings.Cut(text, `data "aws_iam_policy_document" "`+name+`" {`)
	policy, _, _ = strings.Cut(policy, "\n}\n")
	for _, part := range regexp.MustCompile(`\bsid += `).Split(policy, -1)[1:] {
		m := statement.FindStringSubmatch(part)
		if m == nil {
			t.Fatalf("cannot be read: %s", part)
		}
		sid := m[1]
		if sid == "Log" {
			continue
		}
		actions[sid], conditions[sid] = slices.Sorted(slices.Values(words(m[2]))), nil
		for _, c := range condition.FindAllStringSubmatch(part, -1) {
			values := strings.Join(words(c[3]), " ")
			if c[3] == "var.regions" {
				values = "the regions"
			}
			conditions[sid] = append(conditions[sid], c[1]+" "+c[2]+" "+values)
		}
		slices.Sort(conditions[sid])
	}
	wantActions, wantConditions := least(t, role)
	if diff := cmp.Diff(wantActions, actions); diff != "" {
		t.Errorf("actions (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(wantConditions, conditions); diff != "" {
		t.Errorf("conditions (-want +got):\n%s", diff)
	}
	used, there := map[string]bool{}, map[string]bool{}
	for _, m := range variable.FindAllStringSubmatch(text, -1) {
		used[m[1]] = true
	}
	for _, m := range declared.FindAllStringSubmatch(text, -1) {
		there[m[1]] = true
	}
	if !maps.Equal(used, there) {
		t.Errorf("variables used: %v, declared: %v", used, there)
	}
	var kinds []string
	for _, m := range resource.FindAllStringSubmatch(text, -1) {
		kinds = append(kinds, m[1])
	}
	for _, want := range wantKinds {
		if !slices.Contains(kinds, want) {
			t.Errorf("there is no %s", want)
		}
	}
	for _, want := range wantTexts {
		if !strings.Contains(text, want) {
			t.Errorf("it lacks %s", want)
		}
	}
	if terraform, err := exec.LookPath("terraform"); err != nil {
		t.Log("terraform is not there: whether the file is HCL is NOT CHECKED")
	} else if out, err := exec.CommandContext(t.Context(), terraform, "fmt", "-check", "-diff", file).CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
}
