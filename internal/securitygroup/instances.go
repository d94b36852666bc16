package securitygroup

import (
	"cmp"
	"context"
	"slices"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
)

// Instances reads the machines of which an interface is in one of these groups, by id; no
// groups: none.
func (c *Cloud) Instances(ctx context.Context, p Place, groups []string) ([]Instance, error) {
	if len(groups) == 0 {
		return nil, nil
	}
	found := map[string]Instance{}
	for chunk := range chunks(groups) {
		in := &ec2.DescribeInstancesInput{MaxResults: aws.Int32(pageSize), Filters: filters(nil, filter("network-interface.group-id", chunk))}
		for {
			out, err := call(ctx, c, p, "", (*ec2.Client).DescribeInstances, in)
			if err != nil {
				return nil, err
			}
			for _, r := range out.Reservations {
				for _, said := range r.Instances {
					i := Instance{ID: aws.ToString(said.InstanceId), Name: tagMap(said.Tags)["Name"]}
					if said.State != nil {
						i.State = string(said.State.Name)
					}
					for _, g := range said.SecurityGroups {
						i.Groups = append(i.Groups, aws.ToString(g.GroupId))
					}
					for _, n := range said.NetworkInterfaces {
						for _, g := range n.Groups {
							i.Groups = append(i.Groups, aws.ToString(g.GroupId))
						}
					}
					slices.Sort(i.Groups)
					i.Groups = slices.Compact(i.Groups)
					found[i.ID] = i
				}
			}
			if aws.ToString(out.NextToken) == "" {
				break
			}
			in.NextToken = out.NextToken
		}
	}
	list := make([]Instance, 0, len(found))
	for _, i := range found {
		list = append(list, i)
	}
	slices.SortFunc(list, func(a, b Instance) int { return cmp.Compare(a.ID, b.ID) })
	return list, nil
}
