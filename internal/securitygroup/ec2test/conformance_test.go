package ec2test_test

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/smithy-go"

	"sekisho/internal/securitygroup/ec2test"
)

// behaviour is something that AWS does. check tells what was seen instead.
type behaviour struct {
	name  string
	where where
	check func(*peer) error
}

// where is the VPC that a behaviour shows in.
type where int

const (
	anywhere where = iota
	defaultVPC
	otherVPC
	emulated // where roles and regions may be made up
)

// peer is an endpoint under test, with groups that are removed with the test.
type peer struct {
	*ec2.Client
	t    *testing.T
	ctx  context.Context
	kind string // ours, moto, aws
	vpc  string
	make func(region, account string) (*ec2.Client, *sts.Client)
	sts  *sts.Client

	lists []string // removed when no group refers to them any more
}

// TestConformance holds the endpoint to AWS's behaviour, and, where
// SEKISHO_TEST_EC2_ENDPOINT names one (SEKISHO_TEST_EC2_KIND=moto) or
// SEKISHO_TEST_EC2_KIND=aws asks for it, another one too.
func TestConformance(t *testing.T) {
	t.Run("ours", func(t *testing.T) {
		s := ec2test.Start(t)
		s.AddRole(ec2test.Role{ARN: "arn:aws:iam::210987654321:role/gate"})
		conform(t, "ours", s.URL(), s.Client(), func(*peer) string {
			s.AddVPC(ec2test.Place{}, "vpc-0aaaaaaaaaaaaaaaa")
			return "vpc-0aaaaaaaaaaaaaaaa"
		})
	})
	switch kind, endpoint := os.Getenv("SEKISHO_TEST_EC2_KIND"), os.Getenv("SEKISHO_TEST_EC2_ENDPOINT"); kind {
	case "":
	case "moto":
		if endpoint == "" {
			t.Fatal("SEKISHO_TEST_EC2_KIND=moto needs SEKISHO_TEST_EC2_ENDPOINT, where its server answers: make test-moto")
		}
		t.Run("moto", func(t *testing.T) {
			conform(t, "moto", endpoint, nil, func(p *peer) string {
				out, err := p.CreateVpc(p.ctx, &ec2.CreateVpcInput{CidrBlock: aws.String("10.9.0.0/16")})
				if err != nil {
					p.t.Fatal(err)
				}
				p.t.Cleanup(func() { _, _ = p.DeleteVpc(context.WithoutCancel(p.ctx), &ec2.DeleteVpcInput{VpcId: out.Vpc.VpcId}) })
				return *out.Vpc.VpcId
			})
		})
	case "aws":
		t.Run("aws", func(t *testing.T) {
			conform(t, "aws", endpoint, nil, func(p *peer) string {
				vpc := os.Getenv("SEKISHO_TEST_EC2_VPC")
				if vpc == "" {
					p.t.Skip("SEKISHO_TEST_EC2_VPC names no VPC that is not the default one")
				}
				return vpc
			})
		})
	default:
		t.Fatalf("SEKISHO_TEST_EC2_KIND is %q: moto or aws", kind)
	}
}

func conform(t *testing.T, kind, endpoint string, client aws.HTTPClient, other func(*peer) string) {
	known := map[string]string{}
	if kind == "moto" {
		known = motoDoes
	}
	for name := range known {
		there := false
		for _, b := range behaviours() {
			there = there || b.name == name
		}
		if !there {
			t.Errorf("%s differs in %q, which is no behaviour", kind, name)
		}
	}
	for _, b := range behaviours() {
		t.Run(b.name, func(t *testing.T) {
			p := &peer{t: t, ctx: t.Context(), kind: kind}
			p.make = func(region, account string) (*ec2.Client, *sts.Client) {
				return clients(t, kind, endpoint, region, account, client)
			}
			p.Client, p.sts = p.make("", ec2test.DefaultAccount)
			t.Cleanup(p.removeLists) // the last
			switch {
			case b.where == emulated && kind == "aws":
				t.Skip("it needs accounts or regions that are made up")
			case b.where == otherVPC:
				p.vpc = other(p)
			case kind == "aws" && b.where == anywhere && os.Getenv("SEKISHO_TEST_EC2_VPC") != "":
				p.vpc = os.Getenv("SEKISHO_TEST_EC2_VPC")
			}
			err := b.check(p)
			instead, differs := known[b.name]
			switch {
			case !differs && err != nil:
				t.Error(err)
			case differs && err == nil:
				t.Errorf("*** %s DOES AS AWS DOES NOW: take %q from the table of its differences (it was: %s) ***", kind, b.name, instead)
			case differs && !strings.Contains(err.Error(), instead):
				t.Errorf("%s differs otherwise than is known: %v; known is: %s", kind, err, instead)
			}
		})
	}
}

func clients(t *testing.T, kind, endpoint, region, account string, client aws.HTTPClient) (*ec2.Client, *sts.Client) {
	t.Helper()
	if kind == "aws" {
		cfg, err := config.LoadDefaultConfig(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if endpoint != "" {
			cfg.BaseEndpoint = aws.String(endpoint)
		}
		return ec2.NewFromConfig(cfg), sts.NewFromConfig(cfg)
	}
	if region == "" {
		region = ec2test.DefaultRegion
	}
	key := ec2test.KeyOf(account)
	if kind == "moto" {
		key = "AKIAIOSFODNN7EXAMPLE" // whose account moto takes from it would be another than the default
	}
	cfg := aws.Config{
		Region: region, BaseEndpoint: aws.String(endpoint), Credentials: credentials.NewStaticCredentialsProvider(key, "secret", ""),
		HTTPClient: client, Retryer: func() aws.Retryer { return aws.NopRetryer{} },
	}
	return ec2.NewFromConfig(cfg), sts.NewFromConfig(cfg)
}

// code is the API's word for an error.
func code(err error) string {
	if api, ok := errors.AsType[smithy.APIError](err); ok {
		return api.ErrorCode()
	}
	if err != nil {
		return err.Error()
	}
	return "accepted"
}

// refused tells what came in the place of an error's code.
func refused(err error, want string) error {
	if got := code(err); got != want {
		return fmt.Errorf("%s, want %s", got, want)
	}
	return nil
}

// eventually asks AWS again, whose reads are behind; the others once.
func (p *peer) eventually(check func() error) error {
	deadline := time.Now().Add(30 * time.Second)
	for {
		err := check()
		if err == nil || p.kind != "aws" || time.Now().After(deadline) {
			return err
		}
		<-time.After(time.Second) // also in a cleanup, whose context has ended
	}
}

// group makes a group with a name of its own.
func (p *peer) group() string {
	p.t.Helper()
	in := &ec2.CreateSecurityGroupInput{GroupName: aws.String("sekisho-test-" + rand.Text()), Description: aws.String("a test of sekisho")}
	if p.vpc != "" {
		in.VpcId = aws.String(p.vpc)
	}
	out, err := p.CreateSecurityGroup(p.ctx, in)
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() {
		ctx := context.WithoutCancel(p.ctx)
		_, err := p.DeleteSecurityGroup(ctx, &ec2.DeleteSecurityGroupInput{GroupId: out.GroupId})
		if err != nil && code(err) != "InvalidGroup.NotFound" {
			p.t.Errorf("cannot remove %s: %v", *out.GroupId, err)
		}
	})
	if err := p.eventually(func() error {
		_, err := p.DescribeSecurityGroups(p.ctx, &ec2.DescribeSecurityGroupsInput{GroupIds: []string{*out.GroupId}})
		return err
	}); err != nil {
		p.t.Fatal(err)
	}
	return *out.GroupId
}

func (p *peer) removeLists() {
	ctx := context.WithoutCancel(p.ctx)
	for _, id := range p.lists {
		err := p.eventually(func() error {
			_, err := p.DeleteManagedPrefixList(ctx, &ec2.DeleteManagedPrefixListInput{PrefixListId: &id})
			if code(err) == "InvalidPrefixListID.NotFound" {
				return nil
			}
			return err
		})
		if err != nil && p.kind != "moto" {
			p.t.Errorf("cannot remove %s: %v", id, err)
		}
	}
}

// ssh are permissions for port 22 from prefixes of either family.
func ssh(description string, prefixes ...string) []types.IpPermission {
	set := types.IpPermission{IpProtocol: aws.String("tcp"), FromPort: aws.Int32(22), ToPort: aws.Int32(22)}
	for _, one := range prefixes {
		if strings.Contains(one, ":") {
			set.Ipv6Ranges = append(set.Ipv6Ranges, types.Ipv6Range{CidrIpv6: aws.String(one), Description: aws.String(description)})
		} else {
			set.IpRanges = append(set.IpRanges, types.IpRange{CidrIp: aws.String(one), Description: aws.String(description)})
		}
	}
	return []types.IpPermission{set}
}

func tagged(kind types.ResourceType, pairs ...string) []types.TagSpecification {
	return []types.TagSpecification{{ResourceType: kind, Tags: tags(pairs...)}}
}

func tags(pairs ...string) []types.Tag {
	var tags []types.Tag
	for i := 0; i < len(pairs); i += 2 {
		tags = append(tags, types.Tag{Key: aws.String(pairs[i]), Value: aws.String(pairs[i+1])})
	}
	return tags
}

// authorize makes rules, with tags.
func (p *peer) authorize(group string, sets []types.IpPermission, pairs ...string) ([]types.SecurityGroupRule, error) {
	in := &ec2.AuthorizeSecurityGroupIngressInput{GroupId: aws.String(group), IpPermissions: sets}
	if len(pairs) > 0 {
		in.TagSpecifications = tagged(types.ResourceTypeSecurityGroupRule, pairs...)
	}
	out, err := p.AuthorizeSecurityGroupIngress(p.ctx, in)
	if err != nil {
		return nil, err
	}
	return out.SecurityGroupRules, nil
}

// must is authorize for what goes before a test.
func (p *peer) must(group string, sets []types.IpPermission, pairs ...string) []types.SecurityGroupRule {
	p.t.Helper()
	rules, err := p.authorize(group, sets, pairs...)
	if err != nil {
		p.t.Fatal(err)
	}
	return rules
}

// in are the sources of a group's rules for what comes in, in their order, each with its
// description.
func (p *peer) in(group string) (sources []string, err error) {
	rules, err := p.rules(&ec2.DescribeSecurityGroupRulesInput{Filters: filter("group-id", group)})
	for _, r := range rules {
		sources = append(sources, source(r)+" "+aws.ToString(r.Description))
	}
	return sources, err
}

func source(r types.SecurityGroupRule) string {
	return aws.ToString(r.CidrIpv4) + aws.ToString(r.CidrIpv6) + aws.ToString(r.PrefixListId)
}

func filter(name string, values ...string) []types.Filter {
	return []types.Filter{{Name: aws.String(name), Values: values}}
}

// rules are all pages of what comes in.
func (p *peer) rules(in *ec2.DescribeSecurityGroupRulesInput) (rules []types.SecurityGroupRule, err error) {
	pages := ec2.NewDescribeSecurityGroupRulesPaginator(p.Client, in)
	for pages.HasMorePages() {
		page, err := pages.NextPage(p.ctx)
		if err != nil {
			return nil, err
		}
		for _, r := range page.SecurityGroupRules {
			if !aws.ToBool(r.IsEgress) {
				rules = append(rules, r)
			}
		}
	}
	return rules, nil
}

// shows tells what comes in in the place of what should.
func (p *peer) shows(group string, want ...string) error {
	return p.eventually(func() error {
		got, err := p.in(group)
		if err != nil {
			return err
		}
		if strings.Join(got, ", ") != strings.Join(want, ", ") {
			return fmt.Errorf("there is [%s], want [%s]", strings.Join(got, ", "), strings.Join(want, ", "))
		}
		return nil
	})
}
