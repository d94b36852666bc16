package cli

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"sekisho/internal/access"
)

func awsCommand(g *globals) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "aws",
		Short: "What AWS has to allow",
		Args:  usageArgs(cobra.NoArgs),
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(awsPolicyCommand(g))
	return cmd
}

func awsPolicyCommand(g *globals) *cobra.Command {
	var role, account string
	var callers bool
	cmd := &cobra.Command{
		Use:   "policy",
		Short: "Print the least IAM policy for what the configuration names",
		Long: "Print, as IAM takes it, the least policy: for a person (open, close, connect, ssh, leases, who), for the reaper, for the gate, or for\n" +
			"an admin (plan, apply, adopt, where and check, too). IAM can bound neither whom a rule lets in nor which rule is revoked: keep groups\n" +
			"for Sekisho's rules alone where you can.",
		Example: `  sekisho aws policy --for person
  sekisho aws policy --for reaper --account prod
  sekisho aws policy --callers               # for who assumes the roles of aws.accounts`,
		Args: usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := g.cloud("")
			if err != nil {
				return err
			}
			var policy access.Policy
			if callers {
				if policy = c.Callers(); len(policy.Statement) == 0 {
					return &exitError{exitUsage, withHint(errors.New("no account of the configuration has a role"), "see aws.accounts in docs/configuration.md")}
				}
			} else {
				if account == "" {
					if account, err = c.onlyAccount(); err != nil {
						return err
					}
				}
				if policy, err = c.Policy(account, access.Role(role)); err != nil {
					return &exitError{exitUsage, advised(err)}
				}
			}
			raw, err := policy.JSON()
			if err != nil {
				return err
			}
			_, err = g.stdout.Write(raw)
			return err
		},
	}
	cmd.Flags().StringVar(&role, "for", string(access.RoleAdmin), "whose, a `ROLE`: person, reaper, gate or admin")
	cmd.Flags().StringVar(&account, "account", "", "an account's `NAME` in aws.accounts, where there are several")
	cmd.Flags().BoolVar(&callers, "callers", false, "what those need who assume the accounts' roles")
	cmd.MarkFlagsMutuallyExclusive("callers", "account")
	cmd.MarkFlagsMutuallyExclusive("callers", "for")
	return cmd
}

// onlyAccount is the one account that the configuration speaks of.
func (c *inCloud) onlyAccount() (string, error) {
	set := map[string]bool{}
	for _, p := range c.Places() {
		set[p.Account] = true
	}
	names := slices.Sorted(maps.Keys(set))
	if len(names) > 1 {
		return "", &exitError{exitUsage, withHint(fmt.Errorf("the configuration speaks of %d accounts", len(names)), "say which: --account "+strings.Join(names, " or --account "))}
	}
	if len(names) == 0 {
		return "", nil
	}
	return names[0], nil
}
