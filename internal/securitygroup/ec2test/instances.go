package ec2test

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
)

// Instance is a machine that groups stand before. It has one network interface.
type Instance struct {
	ID              string // made, when empty
	Groups          []string
	Private, Public netip.Addr
	State           string // running, when empty
	VPC             string // DefaultVPC, when empty
	Tags            map[string]string
}

// Interface is a network interface, of an instance or of a service of AWS's.
type Interface struct {
	ID              string // made, when empty
	Description     string
	Groups          []string
	Instance        string
	Private, Public netip.Addr
	VPC             string // DefaultVPC, when empty
}

type vpc struct {
	id, cidr string
	seq      uint64
}

type instance struct {
	Instance
	seq uint64
}

type netInterface struct {
	Interface
	seq uint64
}

// AddInstance puts an instance and its network interface.
func (s *Server) AddInstance(p Place, i Instance) (id string) {
	if i.ID == "" {
		i.ID = s.id("i")
	}
	i.State, i.VPC = cmp.Or(i.State, "running"), cmp.Or(i.VPC, DefaultVPC)
	i.Groups, i.Tags = slices.Clone(i.Groups), maps.Clone(i.Tags)
	s.seed(p, func(_ *state, sn *snapshot) []string {
		sn.instances[i.ID] = &instance{i, s.counter.Add(1)}
		return nil
	})
	s.AddInterface(p, Interface{Groups: i.Groups, Instance: i.ID, Private: i.Private, Public: i.Public, VPC: i.VPC})
	return i.ID
}

// AddInterface puts a network interface.
func (s *Server) AddInterface(p Place, i Interface) (id string) {
	if i.ID == "" {
		i.ID = s.id("eni")
	}
	i.VPC = cmp.Or(i.VPC, DefaultVPC)
	i.Groups = slices.Clone(i.Groups)
	s.seed(p, func(_ *state, sn *snapshot) []string {
		sn.interfaces[i.ID] = &netInterface{i, s.counter.Add(1)}
		return nil
	})
	return i.ID
}

// groupSet writes the groups of an instance or an interface.
func (c *call) groupSet(w *writer, ids []string) {
	list(w, "groupSet", ids, func(id string) {
		w.text("groupId", id)
		if g := c.view.groups[id]; g != nil {
			w.text("groupName", g.Name)
		}
	})
}

func address(w *writer, name string, a netip.Addr) {
	if a.IsValid() {
		w.text(name, a.String())
	}
}

func describeInstances(c *call, w *writer) error {
	filters, err := c.filters("instance-id", "instance.group-id", "network-interface.group-id", "instance-state-name", "vpc-id", "tag:", "tag-key")
	if err != nil {
		return err
	}
	ids := c.in.values("InstanceId")
	if len(ids) > 0 && c.in.has("MaxResults") {
		return refuse("InvalidParameterCombination", "The parameter instancesSet cannot be used with the parameter maxResults")
	}
	for _, id := range ids {
		if c.view.instances[id] == nil {
			if !wellFormed(id, "i") {
				return refuse("InvalidInstanceID.Malformed", "Invalid id: \"%s\"", id)
			}
			return refuse("InvalidInstanceID.NotFound", "The instance ID '%s' does not exist", id)
		}
	}
	if err := c.dryRun(); err != nil {
		return err
	}
	keep := func(i *instance) bool {
		return (len(ids) == 0 || slices.Contains(ids, i.ID)) && match(filters, i.Tags, func(name string) []string {
			switch name {
			case "instance-id":
				return []string{i.ID}
			case "instance-state-name":
				return []string{i.State}
			case "vpc-id":
				return []string{i.VPC}
			}
			return i.Groups
		})
	}
	codes := map[string]int{"pending": 0, "running": 16, "shutting-down": 32, "terminated": 48, "stopping": 64, "stopped": 80}
	all := members(c.view.instances, func(i *instance) uint64 { return i.seq })
	return paged(c, w, "reservationSet", usual, all, keep, func(i *instance) {
		w.text("reservationId", "r-"+i.ID[min(2, len(i.ID)):])
		w.text("ownerId", c.place.Account)
		list(w, "instancesSet", []*instance{i}, func(i *instance) {
			w.text("instanceId", i.ID)
			w.in("instanceState", func() {
				w.number("code", codes[i.State])
				w.text("name", i.State)
			})
			address(w, "privateIpAddress", i.Private)
			address(w, "ipAddress", i.Public)
			w.text("vpcId", i.VPC)
			c.groupSet(w, i.Groups)
			w.tags(i.Tags)
		})
	})
}

func describeInterfaces(c *call, w *writer) error {
	filters, err := c.filters("group-id", "network-interface-id", "attachment.instance-id", "vpc-id")
	if err != nil {
		return err
	}
	ids := c.in.values("NetworkInterfaceId")
	for _, id := range ids {
		if c.view.interfaces[id] == nil {
			return refuse("InvalidNetworkInterfaceID.NotFound", "The networkInterface ID '%s' does not exist", id)
		}
	}
	if err := c.dryRun(); err != nil {
		return err
	}
	keep := func(i *netInterface) bool {
		return (len(ids) == 0 || slices.Contains(ids, i.ID)) && match(filters, nil, func(name string) []string {
			switch name {
			case "network-interface-id":
				return []string{i.ID}
			case "attachment.instance-id":
				return []string{i.Instance}
			case "vpc-id":
				return []string{i.VPC}
			}
			return i.Groups
		})
	}
	all := members(c.view.interfaces, func(i *netInterface) uint64 { return i.seq })
	return paged(c, w, "networkInterfaceSet", usual, all, keep, func(i *netInterface) {
		w.text("networkInterfaceId", i.ID)
		w.text("description", i.Description)
		w.text("ownerId", c.place.Account)
		w.text("vpcId", i.VPC)
		w.text("status", "in-use")
		address(w, "privateIpAddress", i.Private)
		if i.Public.IsValid() {
			w.in("association", func() { address(w, "publicIp", i.Public) })
		}
		if i.Instance != "" {
			w.in("attachment", func() {
				w.text("instanceId", i.Instance)
				w.text("status", "attached")
			})
		}
		c.groupSet(w, i.Groups)
	})
}

// enabled are the regions that an account has without asking for them.
var enabled = [...]string{
	"ap-northeast-1", "ap-northeast-2", "ap-northeast-3", "ap-south-1", "ap-southeast-1", "ap-southeast-2", "ca-central-1", "eu-central-1",
	"eu-north-1", "eu-west-1", "eu-west-2", "eu-west-3", "sa-east-1", "us-east-1", "us-east-2", "us-west-1", "us-west-2",
}

func describeRegions(c *call, w *writer) error {
	filters, err := c.filters("region-name", "opt-in-status", "endpoint")
	if err != nil {
		return err
	}
	wanted := c.in.values("RegionName")
	for _, name := range wanted {
		if !slices.Contains(enabled[:], name) {
			return refuse("InvalidParameterValue", "Invalid region names: %s", name)
		}
	}
	if err := c.dryRun(); err != nil {
		return err
	}
	endpoint := func(name string) string { return "ec2." + name + ".amazonaws.com" }
	there := slices.DeleteFunc(slices.Clone(enabled[:]), func(region string) bool {
		return len(wanted) > 0 && !slices.Contains(wanted, region) || !match(filters, nil, func(name string) []string {
			return []string{map[string]string{"region-name": region, "opt-in-status": "opt-in-not-required", "endpoint": endpoint(region)}[name]}
		})
	})
	list(w, "regionInfo", there, func(name string) {
		w.text("regionName", name)
		w.text("regionEndpoint", endpoint(name))
		w.text("optInStatus", "opt-in-not-required")
	})
	return nil
}

func describeVPCs(c *call, w *writer) error {
	filters, err := c.filters("vpc-id", "is-default", "isDefault", "owner-id", "cidr")
	if err != nil {
		return err
	}
	ids := c.in.values("VpcId")
	for _, id := range ids {
		if c.view.vpcs[id] == nil {
			return refuse("InvalidVpcID.NotFound", "The vpc ID '%s' does not exist", id)
		}
	}
	if err := c.dryRun(); err != nil {
		return err
	}
	standard := func(v *vpc) string { return map[bool]string{true: "true", false: "false"}[v.id == DefaultVPC] }
	keep := func(v *vpc) bool {
		return (len(ids) == 0 || slices.Contains(ids, v.id)) && match(filters, nil, func(name string) []string {
			return []string{map[string]string{"vpc-id": v.id, "is-default": standard(v), "isDefault": standard(v), "owner-id": c.place.Account, "cidr": v.cidr}[name]}
		})
	}
	all := members(c.view.vpcs, func(v *vpc) uint64 { return v.seq + 1 })
	return paged(c, w, "vpcSet", usual, all, keep, func(v *vpc) {
		w.text("vpcId", v.id)
		w.text("ownerId", c.place.Account)
		w.text("cidrBlock", v.cidr)
		w.text("state", "available")
		w.truth("isDefault", v.id == DefaultVPC)
	})
}
