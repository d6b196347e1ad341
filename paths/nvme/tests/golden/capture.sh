#!/bin/bash
# Records the golden bytes of this folder from a Linux kernel's own NVMe-oF host and target.
# Inside the VM: cargo xtask vm --kernel 7.2 --rwdir OUT -- bash paths/nvme/tests/golden/capture.sh OUT
set -x
OUT=$1
HERE=$(cd "$(dirname "$0")" && pwd)
HOSTNQN=nqn.2014-08.org.nvmexpress:uuid:11111111-2222-3333-4444-555555555555
HOST="--hostnqn $HOSTNQN --hostid 11111111-2222-3333-4444-555555555555"
NQN=nqn.2026-11.test:vol1
DISCOVERY=nqn.2014-08.org.nvmexpress.discovery
NVMET=/sys/kernel/config/nvmet

uname -r > "$OUT/kernel.txt"
modprobe -a nvmet-rdma nvme-rdma rdma_rxe rdma_ucm nvmet-tcp nvme-tcp veth
modprobe null_blk nr_devices=0
ip link set lo up
ip link add tA type veth peer name tB
ip link set tA mtu 4200
ip addr add 10.9.1.1/24 dev tA
ip link set tA up
ip link set tB up
sleep 1
rdma link add rxA type rxe netdev tA
mount -t configfs none /sys/kernel/config 2> /dev/null

for disk in n0 n1; do
    mkdir /sys/kernel/config/nullb/$disk
    for setting in memory_backed=1 size=256 blocksize=4096 discard=1 irqmode=0 power=1; do
        echo "${setting#*=}" > "/sys/kernel/config/nullb/$disk/${setting%=*}"
    done
done

# namespace NSID DISK UUID NGUID GROUP
namespace() {
    local folder=$NVMET/subsystems/$NQN/namespaces/$1
    mkdir "$folder"
    echo "/dev/$2" > "$folder/device_path"
    echo "$3" > "$folder/device_uuid"
    echo "$4" > "$folder/device_nguid"
    echo "$5" > "$folder/ana_grpid"
    echo 1 > "$folder/enable"
}
# port ID TRTYPE ADDRESS
port() {
    local folder=$NVMET/ports/$1
    mkdir "$folder" "$folder/ana_groups/2" "$folder/ana_groups/7"
    echo non-optimized > "$folder/ana_groups/2/ana_state"
    echo inaccessible > "$folder/ana_groups/7/ana_state"
    echo "$2" > "$folder/addr_trtype"
    echo ipv4 > "$folder/addr_adrfam"
    echo "$3" > "$folder/addr_traddr"
    echo 4420 > "$folder/addr_trsvcid"
    ln -s "$NVMET/subsystems/$NQN" "$folder/subsystems/"
    ln -s "$NVMET/subsystems/nqn.2026-11.test:closed" "$folder/subsystems/"
}
mkdir "$NVMET/subsystems/$NQN" "$NVMET/subsystems/nqn.2026-11.test:closed"
echo 1 > "$NVMET/subsystems/$NQN/attr_allow_any_host"
echo 0 > "$NVMET/subsystems/nqn.2026-11.test:closed/attr_allow_any_host"
echo UMPATHGOLD0001 > "$NVMET/subsystems/$NQN/attr_serial"
echo umpath-golden > "$NVMET/subsystems/$NQN/attr_model"
port 1 rdma 10.9.1.1
port 2 tcp 127.0.0.1
namespace 1 n0 4d5f4b1c-6f0e-4a6e-9a55-0b7e0c0de001 00112233-4455-6677-8899-aabbccddeeff 2
namespace 5 n1 4d5f4b1c-6f0e-4a6e-9a55-0b7e0c0de005 10112233-4455-6677-8899-aabbccddeeff 7

# controller NQN: the character device of the controller connected to it
controller() {
    echo "/dev/$(basename "$(dirname "$(grep -lx "$1" /sys/class/nvme/nvme*/subsysnqn | head -1)")")"
}
# identify NSID CNS FILE
identify() {
    nvme admin-passthru "$C" -o 6 -n "$1" --cdw10="$2" -l 4096 -r -b > "$OUT/$3"
}
# log_page LID BYTES FILE
log_page() {
    nvme admin-passthru "$C" -o 2 -n 0xffffffff --cdw10=$(($1 | (($2 / 4 - 1) << 16))) -l "$2" -r -b \
        > "$OUT/$3"
}

# Admin pages of a discovery and of an I/O controller, over RDMA.
nvme connect -t rdma -a 10.9.1.1 -s 4420 -n $DISCOVERY $HOST --keep-alive-tmo 30
C=$(controller $DISCOVERY)
log_page 0x70 3072 discovery_log.bin
identify 0 1 id_ctrl_discovery.bin
nvme disconnect -d "$C"
nvme connect -t rdma -a 10.9.1.1 -s 4420 -n $NQN $HOST -i 2
sleep 2
C=$(controller $NQN)
identify 0 1 id_ctrl.bin
identify 1 0 id_ns1.bin
identify 5 0 id_ns5.bin
identify 0 2 ns_list.bin
identify 1 3 ns_descs1.bin
identify 1 5 id_ns_nvm.bin
identify 0 6 id_ctrl_nvm.bin
identify 1 8 id_ns_independent.bin
log_page 0x00 1024 supported_logs.bin
identify 1 0x12 refused # not supported: fills the error log
log_page 0x01 64 error_log.bin
rm -f "$OUT/refused"
log_page 0x02 512 smart_log.bin
log_page 0x03 512 fw_slot_log.bin
log_page 0x05 4096 effects_log.bin
log_page 0x0c 4096 ana_log.bin
for offset in 0 8 0x14 0x1c; do
    nvme get-property "$C" --offset=$offset >> "$OUT/properties.txt"
done
nvme disconnect-all

# Connection manager private data: the host's request, the target's answers.
gcc -O1 -o /tmp/cm "$HERE/cm.c" -lrdmacm -libverbs
/tmp/cm listen 10.9.1.1 4421 "$OUT/cm_request_admin.bin" &
LISTENER=$!
sleep 1
timeout 20 nvme connect -t rdma -a 10.9.1.1 -s 4421 -n $NQN $HOST
wait $LISTENER
ZEROES=00000000000000000000000000000000000000000000
/tmp/cm connect 10.9.1.1 4420 0000000020001f000000$ZEROES "$OUT/cm_reply_admin.bin"
/tmp/cm connect 10.9.1.1 4420 0100000020001f000000$ZEROES "$OUT/cm_reject_recfmt.bin"

# Whole capsules in both directions, over TCP: a life with I/O and an ANA change, then refusals.
TAP=/tmp/tap
mkdir -p $TAP
python3 "$HERE/tap.py" 4430 4420 $TAP &
PROXY=$!
until ss -tln | grep -q 127.0.0.1:4430; do sleep 0.5; done
nvme connect -t tcp -a 127.0.0.1 -s 4430 -n $NQN $HOST -i 1 -k 5
for _ in $(seq 40); do
    DISK=$(lsblk -lnpo NAME | grep -m1 '^/dev/nvme') && [ -b "$DISK" ] && break
    sleep 0.5
done
ls -l /dev/nvme*
sleep 2
dd if=/dev/zero of="$DISK" bs=4k count=1 oflag=direct seek=3 conv=fsync
dd if="$DISK" of=/dev/null bs=8k count=1 iflag=direct skip=2
blkdiscard -o 16384 -l 65536 "$DISK"
blkdiscard -z -o 4096 -l 8192 "$DISK"
echo inaccessible > $NVMET/ports/2/ana_groups/2/ana_state
sleep 1
echo optimized > $NVMET/ports/2/ana_groups/2/ana_state
sleep 6
nvme disconnect-all
sleep 1
nvme connect -t tcp -a 127.0.0.1 -s 4430 -n nqn.2026-11.test:nosuch $HOST
nvme connect -t tcp -a 127.0.0.1 -s 4430 -n nqn.2026-11.test:closed $HOST
sleep 1
kill $PROXY
python3 "$HERE/tap.py" split $TAP
rm -f $TAP/stream[23].sqes $TAP/stream3.connect # those of admin again, but for the name
STREAM=0
for name in admin io refused_subsystem refused_host; do
    for kind in sqes cqes connect; do
        mv "$TAP/stream$STREAM.$kind" "$OUT/$name.$kind" 2> /dev/null
    done
    STREAM=$((STREAM + 1))
done
dmesg | tail -20
ls -l "$OUT"
