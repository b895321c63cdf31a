-- What the DHCP server of its network was last told of a port: before that, the port is not shown as up.
alter table ports add column told text not null default '';
