package securitygroup

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// rulePage is an answer of DescribeSecurityGroupRules with 1,000 rules, as EC2 writes it:
// of 200 groups, five of ours and one that lets out for each six.
func rulePage(next string) []byte {
	var b strings.Builder
	b.WriteString(`<?xml version="1.0" encoding="UTF-8"?>` + "\n" + `<DescribeSecurityGroupRulesResponse xmlns="http://ec2.amazonaws.com/doc/2016-11-15/">` + "\n    <requestId>7a1e0ac6-5a5c-4d6a-8f53-000000000000</requestId>\n    <securityGroupRuleSet>\n")
	for i := range 1000 {
		fmt.Fprintf(&b, `        <item>
            <cidrIpv4>198.51.%d.%d/32</cidrIpv4>
            <description>hanako tanaka by sekisho</description>
            <fromPort>22</fromPort>
            <groupId>sg-0%016x</groupId>
            <groupOwnerId>123456789012</groupOwnerId>
            <ipProtocol>tcp</ipProtocol>
            <isEgress>%t</isEgress>
            <securityGroupRuleArn>arn:aws:ec2:ap-northeast-1:123456789012:security-group-rule/sgr-0%016x</securityGroupRuleArn>
            <securityGroupRuleId>sgr-0%016x</securityGroupRuleId>
            <tagSet>
                <item><key>sekisho:managed</key><value>yes</value></item>
                <item><key>sekisho:fixed</key><value>hanako</value></item>
            </tagSet>
            <toPort>22</toPort>
        </item>
`, i/250, i%250, i/6, i%6 == 5, i, i)
	}
	b.WriteString("    </securityGroupRuleSet>\n")
	if next != "" {
		b.WriteString("    <nextToken>" + next + "</nextToken>\n")
	}
	b.WriteString("</DescribeSecurityGroupRulesResponse>")
	return []byte(b.String())
}

// pages answers every question for rules with so many pages.
func pages(tb testing.TB, n int, latency time.Duration) string {
	tb.Helper()
	bodies := make([][]byte, n)
	for i := range bodies {
		next := ""
		if i+1 < n {
			next = strconv.Itoa(i + 1)
		}
		bodies[i] = rulePage(next)
	}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n, _ := strconv.Atoi(r.FormValue("NextToken")) // none is the first
		if latency > 0 {
			<-time.After(latency)
		}
		_, _ = w.Write(bodies[n])
	}))
	tb.Cleanup(s.Close)
	return s.URL
}

// BenchmarkRules reads as many rules as there are in so many pages, in one region or in
// four side by side.
func BenchmarkRules(b *testing.B) {
	for _, bb := range []struct {
		pages, regions int
		latency        time.Duration
	}{{1, 1, 0}, {12, 1, 0}, {3, 4, 0}, {12, 4, 0}, {3, 4, 50 * time.Millisecond}, {12, 4, 50 * time.Millisecond}} {
		b.Run(fmt.Sprintf("rules=%d/regions=%d/latency=%v", bb.pages*bb.regions*1000, bb.regions, bb.latency), func(b *testing.B) {
			b.Setenv("AWS_ACCESS_KEY_ID", "AKIA0000123456789012")
			b.Setenv("AWS_SECRET_ACCESS_KEY", "secret")
			c := Open(Options{Endpoint: pages(b, bb.pages, bb.latency)})
			b.ReportAllocs()
			for b.Loop() {
				var wg sync.WaitGroup
				for i := range bb.regions {
					wg.Go(func() {
						n := 0
						err := c.Rules(b.Context(), Place{Region: fmt.Sprintf("eu-central-%d", i+1)}, Query{}, func(rules []Rule) error { n += len(rules); return nil })
						if err != nil || n == 0 {
							b.Errorf("%d rules, %v", n, err)
						}
					})
				}
				wg.Wait()
			}
			b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N*bb.pages*bb.regions*1000), "µs/rule")
		})
	}
}
