package main

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestReport(t *testing.T) {
	tests := []struct {
		name   string
		input  []string
		want   []string
		failed bool
	}{
		{
			name: "a pass is one line",
			input: []string{
				`{"Action":"run","Package":"p","Test":"TestA"}`,
				`{"Action":"output","Package":"p","Test":"TestA","Output":"noise\n"}`,
				`{"Action":"pass","Package":"p","Test":"TestA"}`,
				`{"Action":"output","Package":"p","Output":"PASS\n"}`,
				`{"Action":"output","Package":"p","Output":"ok  \tp\t0.1s\n"}`,
				`{"Action":"pass","Package":"p"}`,
			},
			want: []string{"ok  \tp\t0.1s", "1 tests passed"},
		},
		{
			name: "a skipped test is told with its reason",
			input: []string{
				`{"Action":"output","Package":"p","Test":"TestKernel","Output":"=== RUN   TestKernel\n"}`,
				`{"Action":"output","Package":"p","Test":"TestKernel","Output":"    k_test.go:9: needs root: no namespace\n"}`,
				`{"Action":"output","Package":"p","Test":"TestKernel","Output":"--- SKIP: TestKernel (0.00s)\n"}`,
				`{"Action":"skip","Package":"p","Test":"TestKernel"}`,
			},
			want: []string{"0 tests passed", "", "LEFT OUT: 1 tests did not run:", "  LEFT OUT: p TestKernel: needs root: no namespace"},
		},
		{
			name: "a failing test shows all that it said",
			input: []string{
				`{"Action":"output","Package":"p","Test":"TestA","Output":"    a_test.go:3: got 1, want 2\n"}`,
				`{"Action":"output","Package":"p","Test":"TestA","Output":"--- FAIL: TestA (0.00s)\n"}`,
				`{"Action":"fail","Package":"p","Test":"TestA"}`,
				`{"Action":"output","Package":"p","Output":"FAIL\tp\t0.1s\n"}`,
				`{"Action":"fail","Package":"p"}`,
			},
			want:   []string{"    a_test.go:3: got 1, want 2", "--- FAIL: TestA (0.00s)", "FAIL\tp\t0.1s", "0 tests passed"},
			failed: true,
		},
		{
			name: "a package that does not build fails, and says why",
			input: []string{
				`{"ImportPath":"p [p.test]","Action":"build-output","Output":"p/a.go:1: syntax error\n"}`,
				`{"ImportPath":"p [p.test]","Action":"build-fail"}`,
			},
			want:   []string{"p/a.go:1: syntax error", "0 tests passed"},
			failed: true,
		},
		{
			name:  "what is not JSON is shown",
			input: []string{"go: downloading"},
			want:  []string{"go: downloading", "0 tests passed"},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var out strings.Builder
			failed, err := report(strings.NewReader(strings.Join(tt.input, "\n")+"\n"), &out)
			if err != nil {
				t.Fatal(err)
			}
			if failed != tt.failed {
				t.Errorf("failed: got %v, want %v", failed, tt.failed)
			}
			if diff := cmp.Diff(strings.Join(tt.want, "\n")+"\n", out.String()); diff != "" {
				t.Errorf("output (-want +got):\n%s", diff)
			}
		})
	}
}
