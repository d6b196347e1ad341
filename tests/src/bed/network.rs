//! Two sides and the cables between them.
//!
//! Cable `n` (from 1) has two ends: `array<n>` with 10.9.n.1 on the array's side and `host<n>` with
//! 10.9.n.2 on the host's, MTU 4,200, with soft-RoCE devices `rxa<n>` and `rxh<n>`. Between them is
//! a switch `sw<n>` with ports `pa<n>` and `ph<n>`, in a namespace `switch` of its own. An end
//! loses its carrier when its port goes down, as when a plug is pulled: the interface stays up and
//! keeps its routes. (Switching an interface itself off is different: soft-RoCE then fails a send at
//! once, where hardware retries, and a failed send of the connection manager leaves the management
//! queue pair of the device in error for good: [`Cable::makes_connections`].)

use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use super::kernel::{load, rxe_has_namespaces};
use super::place::Place;
use super::run::{attempt, output, run};
use super::wait::within;

const MTU: &str = "4200";
const LINK_TIME: Duration = Duration::from_secs(10);

/// One end of a cable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Runs the targets.
    Array,
    /// Uses the volumes.
    Host,
}

/// How a cable stops carrying packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pull {
    /// This side loses its carrier, as when its plug is pulled; the other side only receives
    /// nothing.
    CarrierOf(Side),
    /// Both ends keep their carrier and every packet is lost, as behind a broken switch.
    Silent,
}

/// Both sides, and the cables between them.
#[derive(Debug)]
pub struct Network {
    // Declared first, so dropped first: the places remove whatever is left in them.
    cables: Vec<Cable>,
    host: Place,
    array: Place,
    switch: Place,
}

impl Network {
    /// Namespaces `host` and `array` with cables between: needs [`rxe_has_namespaces`].
    pub fn separate(cables: u8) -> Result<Self> {
        ensure!(
            rxe_has_namespaces(),
            "soft-RoCE has no namespaces on this kernel (needs Linux 7)"
        );
        Self::between(Place::make("array")?, Place::make("host")?, cables)
    }

    /// The array's side in the initial namespace, for the kernel's own target.
    pub fn kernel_array(cables: u8) -> Result<Self> {
        ensure!(
            rxe_has_namespaces(),
            "soft-RoCE has no namespaces on this kernel (needs Linux 7)"
        );
        Self::between(Place::INITIAL, Place::make("host")?, cables)
    }

    /// The host's side in the initial namespace, for the kernel's own host.
    pub fn kernel_host(cables: u8) -> Result<Self> {
        ensure!(
            rxe_has_namespaces(),
            "soft-RoCE has no namespaces on this kernel (needs Linux 7)"
        );
        Self::between(Place::make("array")?, Place::INITIAL, cables)
    }

    /// Both sides in the initial namespace: traffic loops back and no cable can be pulled.
    pub fn loopback(cables: u8) -> Result<Self> {
        Self::between(Place::INITIAL, Place::INITIAL, cables)
    }

    fn between(array: Place, host: Place, cables: u8) -> Result<Self> {
        load(&["veth", "bridge", "rdma_rxe", "ib_uverbs", "rdma_ucm"])?;
        // As systemd sets a machine up. `ip netns exec` gives every process its own mount
        // namespace; without this a later umount would not propagate to it and the device would
        // stay in use there.
        run(Command::new("mount").args(["--make-rshared", "/"]))?;
        run(Command::new("ip").args(["link", "set", "lo", "up"]))?;
        let mut network = Self {
            cables: Vec::new(),
            host,
            array,
            switch: Place::make("switch")?,
        };
        for number in 1..=cables {
            let Self {
                host,
                array,
                switch,
                ..
            } = &network;
            let cable = Cable::make(number, array, host, switch)?;
            network.cables.push(cable);
        }
        for cable in &network.cables {
            cable.wait_active()?;
        }
        Ok(network)
    }

    /// The array's side.
    pub fn array(&self) -> &Place {
        &self.array
    }

    /// The host's side.
    pub fn host(&self) -> &Place {
        &self.host
    }

    /// The namespace of the switches, for changing the state of their ports.
    pub fn switch(&self) -> &Place {
        &self.switch
    }

    /// The cable with this number, counted from 1.
    pub fn cable(&self, number: u8) -> &Cable {
        let cable = self.cables.iter().find(|cable| cable.number == number);
        cable.expect("a cable of this network")
    }
}

/// Two ends with soft-RoCE, and the switch between them.
#[derive(Debug)]
pub struct Cable {
    number: u8,
    array: Option<&'static str>,
    host: Option<&'static str>,
    switch: Option<&'static str>,
}

impl Cable {
    fn make(number: u8, array: &Place, host: &Place, switch: &Place) -> Result<Self> {
        let cable = Self {
            number,
            array: array.name(),
            host: host.name(),
            switch: switch.name(),
        };
        let bridge = format!("sw{number}");
        // No spanning tree: a port that is up forwards at once.
        let words = "type bridge stp_state 0 forward_delay 0 mcast_snooping 0";
        let words = words.split(' ');
        run(cable
            .switch()
            .args(["link", "add", &bridge, "mtu", MTU, "up"])
            .args(words))?;
        for side in [Side::Array, Side::Host] {
            let (netdev, port) = (cable.netdev(side), cable.port(side));
            let mut add = Command::new("ip");
            add.args(["link", "add", &netdev]);
            if let Some(name) = cable.place(side) {
                add.args(["netns", name]);
            }
            add.args(["type", "veth", "peer", "name", &port]);
            if let Some(name) = cable.switch {
                add.args(["netns", name]);
            }
            run(&mut add)?;
            run(cable
                .switch()
                .args(["link", "set", &port, "mtu", MTU, "master", &bridge, "up"]))?;
            let address = format!("{}/24", cable.address(side));
            run(cable
                .at(side, "ip")
                .args(["link", "set", &netdev, "mtu", MTU]))?;
            run(cable
                .at(side, "ip")
                .args(["address", "add", &address, "dev", &netdev]))?;
            run(cable.at(side, "ip").args(["link", "set", &netdev, "up"]))?;
        }
        for side in [Side::Array, Side::Host] {
            let (rdma, netdev) = (cable.rdma_device(side), cable.netdev(side));
            let words = ["link", "add", &rdma, "type", "rxe", "netdev", &netdev];
            run(cable.at(side, "rdma").args(words))?;
        }
        Ok(cable)
    }

    fn place(&self, side: Side) -> Option<&'static str> {
        match side {
            Side::Array => self.array,
            Side::Host => self.host,
        }
    }

    fn at(&self, side: Side, program: &str) -> Command {
        match self.place(side) {
            None => Command::new(program),
            Some(name) => {
                let mut command = Command::new("ip");
                command.args(["netns", "exec", name, program]);
                command
            }
        }
    }

    /// The network device of an end.
    pub fn netdev(&self, side: Side) -> String {
        match side {
            Side::Array => format!("array{}", self.number),
            Side::Host => format!("host{}", self.number),
        }
    }

    /// The switch port an end is plugged into; see [`Network::switch`].
    pub fn port(&self, side: Side) -> String {
        match side {
            Side::Array => format!("pa{}", self.number),
            Side::Host => format!("ph{}", self.number),
        }
    }

    fn switch(&self) -> Command {
        let mut command = Command::new("ip");
        if let Some(name) = self.switch {
            command.args(["-n", name]);
        }
        command
    }

    /// The RDMA device of an end.
    pub fn rdma_device(&self, side: Side) -> String {
        match side {
            Side::Array => format!("rxa{}", self.number),
            Side::Host => format!("rxh{}", self.number),
        }
    }

    /// The address of an end.
    pub fn address(&self, side: Side) -> Ipv4Addr {
        Ipv4Addr::new(10, 9, self.number, if side == Side::Array { 1 } else { 2 })
    }

    /// Whether an end sees a carrier.
    pub fn carrier(&self, side: Side) -> bool {
        let path = format!("/sys/class/net/{}/carrier", self.netdev(side));
        output(self.at(side, "cat").arg(path)).is_ok_and(|text| text.trim() == "1")
    }

    /// Stops the cable from carrying packets.
    pub fn pull(&self, how: Pull) -> Result<()> {
        match how {
            Pull::CarrierOf(side) => self.set_port(side, "down"),
            Pull::Silent => {
                load(&["sch_netem"])?;
                for side in [Side::Array, Side::Host] {
                    let netdev = self.netdev(side);
                    let words = [
                        "qdisc", "replace", "dev", &netdev, "root", "netem", "loss", "100%",
                    ];
                    run(self.at(side, "tc").args(words))?;
                }
                Ok(())
            }
        }
    }

    /// Switches the interface of an end off.
    pub fn switch_off(&self, side: Side) -> Result<()> {
        self.set_interface(side, "down")
    }

    /// Switches it on again.
    pub fn switch_on(&self, side: Side) -> Result<()> {
        self.set_interface(side, "up")
    }

    fn set_interface(&self, side: Side, state: &str) -> Result<()> {
        let netdev = self.netdev(side);
        run(self.at(side, "ip").args(["link", "set", &netdev, state]))
    }

    /// Drops what the connection manager of an end sends, as a firewall does, and nothing else. The
    /// first call on an end may cost the connections over it: soft-RoCE fails a send at the moment
    /// the interface gets its hook for filters.
    pub fn refuse_management(&self, side: Side) -> Result<()> {
        load(&["sch_ingress", "cls_u32", "act_gact"])?;
        let netdev = self.netdev(side);
        // Fails where there is one already.
        attempt(
            self.at(side, "tc")
                .args(["qdisc", "add", "dev", &netdev, "clsact"]),
        )?;
        // RoCE v2 (UDP port 4791) to queue pair 1, whose number is behind 20 bytes of IP, 8 of UDP and
        // 5 of the base transport header.
        let words = "egress protocol ip u32 match ip dport 4791 0xffff match u32 1 0x00ffffff at 32 \
                     action drop";
        run(self
            .at(side, "tc")
            .args(["filter", "add", "dev", &netdev])
            .args(words.split_ascii_whitespace()))
    }

    /// Undoes [`Cable::refuse_management`].
    pub fn permit_management(&self, side: Side) -> Result<()> {
        let netdev = self.netdev(side);
        run(self
            .at(side, "tc")
            .args(["filter", "delete", "dev", &netdev, "egress"]))
    }

    /// Whether the RDMA device of an end can make connections: its management queue pair is not in
    /// error.
    pub fn makes_connections(&self, side: Side) -> Result<bool> {
        let link = format!("{}/1", self.rdma_device(side));
        let words = ["resource", "show", "qp", "link", &link];
        let pairs = output(self.at(side, "rdma").args(words))?;
        let management = pairs.lines().find(|line| line.contains("type GSI"));
        let management = management.with_context(|| format!("no GSI in: {pairs}"))?;
        Ok(!management.contains("state ERR"))
    }

    /// Undoes [`Cable::pull`] and [`Cable::switch_off`].
    pub fn restore(&self) -> Result<()> {
        for side in [Side::Array, Side::Host] {
            let netdev = self.netdev(side);
            attempt(
                self.at(side, "tc")
                    .args(["qdisc", "delete", "dev", &netdev, "root"]),
            )?;
            self.set_port(side, "up")?;
            self.switch_on(side)?;
        }
        Ok(())
    }

    fn set_port(&self, side: Side, state: &str) -> Result<()> {
        run(self.switch().args(["link", "set", &self.port(side), state]))
    }

    fn wait_active(&self) -> Result<()> {
        for side in [Side::Array, Side::Host] {
            let device = self.rdma_device(side);
            let state = format!("/sys/class/infiniband/{device}/ports/1/state");
            within(LINK_TIME, &format!("{device} active"), || {
                fs::read_to_string(&state).is_ok_and(|text| text.contains("ACTIVE"))
            })?;
        }
        Ok(())
    }
}

impl Drop for Cable {
    fn drop(&mut self) {
        for side in [Side::Array, Side::Host] {
            let device = self.rdma_device(side);
            if Path::new("/sys/class/infiniband").join(&device).exists() {
                drop(attempt(
                    self.at(side, "rdma").args(["link", "delete", &device]),
                ));
            }
        }
        // Deleting an end deletes its switch port; the bridge goes with the namespace.
        for side in [Side::Array, Side::Host] {
            let netdev = self.netdev(side);
            drop(attempt(
                self.at(side, "ip").args(["link", "delete", &netdev]),
            ));
        }
    }
}
