-- Networks, subnets, ports, security groups, routers, floating IPs.
-- Columns after "status" are written by the steps of the resource only.
create table networks (
    id text primary key,
    project_id text not null,
    name text not null,
    description text not null,
    admin_state_up bigint not null,
    shared bigint not null,
    external bigint not null,
    is_default bigint not null,
    mtu bigint not null,
    port_security_enabled bigint not null,
    network_type text not null,
    physical_network text,
    segmentation_id bigint unique,
    dns_domain text not null,
    availability_zone_hints text not null,
    tags text not null,
    revision bigint not null,
    created_at double precision not null,
    updated_at double precision not null,
    deleting bigint not null,
    -- status
    nodes text not null,
    standing text not null,
    served_by text,
    fault text not null
);
create unique index networks_physical on networks (physical_network) where deleting = 0;
create index networks_project on networks (project_id);
create table subnets (
    id text primary key,
    project_id text not null,
    network_id text not null references networks (id) on delete cascade,
    network_project_id text not null,
    shared bigint not null,
    name text not null,
    description text not null,
    ip_version bigint not null,
    cidr text not null,
    gateway_ip text,
    enable_dhcp bigint not null,
    dns_nameservers text not null,
    host_routes text not null,
    allocation_pools text not null,
    ipv6_ra_mode text,
    ipv6_address_mode text,
    service_types text not null,
    subnetpool_id text,
    dns_publish_fixed_ip bigint not null,
    tags text not null,
    revision bigint not null,
    created_at double precision not null,
    updated_at double precision not null
);
create index subnets_network on subnets (network_id);
create index subnets_project on subnets (project_id);
create table ports (
    id text primary key,
    project_id text not null,
    network_id text not null references networks (id),
    network_project_id text not null,
    name text not null,
    description text not null,
    mac_address text not null,
    admin_state_up bigint not null,
    device_id text not null,
    device_owner text not null,
    fixed_ips text not null,
    security_groups text not null,
    port_security_enabled bigint not null,
    allowed_address_pairs text not null,
    extra_dhcp_opts text not null,
    dns_name text not null,
    dns_domain text not null,
    vnic_type text not null,
    binding_profile text not null,
    host text not null,
    propagate_uplink_status bigint not null,
    node_id text,
    tags text not null,
    revision bigint not null,
    created_at double precision not null,
    updated_at double precision not null,
    deleting bigint not null,
    -- status
    status text not null,
    placed_on text,
    up bigint not null,
    device text not null,
    netns text not null,
    fault text not null
);
create unique index ports_mac on ports (network_id, mac_address) where deleting = 0;
create index ports_project on ports (project_id, deleting);
create index ports_device on ports (device_id);
create index ports_node on ports (node_id);
create index ports_placed on ports (placed_on);
create index ports_network on ports (network_id, placed_on);
create table addresses (
    network_id text not null,
    ip text not null,
    subnet_id text not null references subnets (id),
    port_id text not null references ports (id) on delete cascade,
    number text not null,
    primary key (network_id, ip)
);
create index addresses_subnet on addresses (subnet_id, number);
create index addresses_port on addresses (port_id);
create table security_groups (
    id text primary key,
    project_id text not null,
    name text not null,
    description text not null,
    is_default bigint not null,
    tags text not null,
    revision bigint not null,
    created_at double precision not null,
    updated_at double precision not null,
    deleting bigint not null,
    -- status
    nodes text not null,
    fault text not null
);
create unique index security_groups_default on security_groups (project_id) where is_default = 1;
create index security_groups_project on security_groups (project_id);
create table security_group_rules (
    id text primary key,
    project_id text not null,
    security_group_id text not null references security_groups (id) on delete cascade,
    description text not null,
    direction text not null,
    ethertype text not null,
    protocol text,
    port_range_min bigint,
    port_range_max bigint,
    remote_ip_prefix text,
    remote_group_id text references security_groups (id) on delete cascade,
    said text not null,
    revision bigint not null,
    created_at double precision not null,
    updated_at double precision not null,
    unique (security_group_id, said)
);
create index security_group_rules_project on security_group_rules (project_id);
create index security_group_rules_remote on security_group_rules (remote_group_id);
create table port_groups (
    port_id text not null references ports (id) on delete cascade,
    group_id text not null references security_groups (id),
    primary key (port_id, group_id)
);
create index port_groups_group on port_groups (group_id);
create table routers (
    id text primary key,
    project_id text not null,
    name text not null,
    description text not null,
    admin_state_up bigint not null,
    gateway_network_id text references networks (id),
    gateway_port_id text references ports (id),
    enable_snat bigint not null,
    routes text not null,
    availability_zone_hints text not null,
    tags text not null,
    revision bigint not null,
    created_at double precision not null,
    updated_at double precision not null,
    deleting bigint not null,
    -- status
    node_id text,
    left_nodes text not null,
    standing bigint not null,
    fault text not null
);
create index routers_project on routers (project_id);
create index routers_node on routers (node_id);
create index routers_gateway on routers (gateway_network_id);
create table floating_ips (
    id text primary key,
    project_id text not null,
    floating_network_id text not null references networks (id),
    floating_ip_address text not null,
    floating_port_id text not null references ports (id),
    port_id text references ports (id),
    fixed_ip_address text,
    router_id text references routers (id),
    description text not null,
    dns_name text not null,
    dns_domain text not null,
    tags text not null,
    revision bigint not null,
    created_at double precision not null,
    updated_at double precision not null,
    -- status, written by the steps of its router
    carried text not null,
    unique (floating_network_id, floating_ip_address)
);
create unique index floating_ips_fixed on floating_ips (port_id, fixed_ip_address);
create index floating_ips_project on floating_ips (project_id);
create index floating_ips_router on floating_ips (router_id);
create table network_agents (
    node_id text primary key,
    admin_state_up bigint not null,
    description text not null
);
