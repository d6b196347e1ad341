#!/bin/bash
# Runs every check of the front end on a real ublk device over a namespace in memory.
# Usage, as root on a kernel with ublk_drv not loaded yet: run.sh path/to/memory
M=$1
export PATH="$PATH:/usr/sbin:/sbin"
D=/dev/ublkb0; Q=/sys/block/ublkb0/queue; W=$(mktemp -d); mkdir $W/m; mkfifo $W/in
status=0
ok() { echo "ok   $1"; }
bad() { echo "FAIL $1"; status=1; }
check() { local what=$1; shift; if "$@" >>$W/log 2>&1; then ok "$what"; else bad "$what"; fi; }
is() { if [ "$2" = "$3" ]; then ok "$1 is $2"; else bad "$1 is $2, not $3"; fi; }
says() { if grep -q -- "$2" $W/out; then ok "$1"; else bad "$1: nothing like '$2'"; fi; }
# The server reads verbs from descriptor 3.
start() {
  : >$W/out; "$M" "$@" <$W/in >>$W/out 2>&1 & server=$!; exec 3>$W/in
  for _ in $(seq 300); do grep -q ready $W/out && break; sleep 0.1; done; udevadm settle 2>/dev/null
}
verb() { echo "$1" >&3; sleep "${2:-0.5}"; }
gone() {
  exec 3>&-; wait $server; is "server's exit status" $? 0
  is "nodes left" "$(echo /dev/ublk[bc]*)" "/dev/ublk[bc]*"
}
fio_on() { fio --name=f --direct=1 --ioengine=libaio --time_based --output-format=terse "$@" >>$W/fio 2>&1; }

echo "--- $(uname -r): what is missing is named"
"$M" </dev/null >$W/out 2>&1; says "no driver" "modprobe ublk_drv"
modprobe ublk_drv || exit 1

echo "--- limits and an idle device"
start
for pair in logical_block_size:4096 physical_block_size:4096 max_hw_sectors_kb:1024 fua:1 rotational:0 \
    discard_granularity:4096 write_zeroes_max_bytes:268435456; do
  is "${pair%:*}" "$(cat $Q/${pair%:*})" "${pair#*:}"
done
is write_cache "$(cat $Q/write_cache)" "write back"
ticks() { awk '{print $14 + $15}' /proc/$server/stat; }
before=$(ticks); sleep 3; is "clock ticks in 3 idle seconds" $(($(ticks) - before)) 0

echo "--- file system, discard, write zeroes, flush and FUA"
check mkfs mkfs.ext4 -q $D; check mount mount $D $W/m
check "fio verify" fio --name=v --directory=$W/m --size=16m --numjobs=2 --rw=randwrite \
  --bsrange=4k-256k --ioengine=libaio --iodepth=16 --direct=1 --verify=crc32c --verify_fatal=1 \
  --fsync=32 --verify_state_save=0
rm -f $W/m/v*; sync; check fstrim fstrim $W/m; check umount umount $W/m; check fsck fsck.ext4 -fn $D
dd if=/dev/urandom of=$D bs=1M count=4 oflag=direct 2>>$W/log
check "write zeroes" blkdiscard -z -o 0 -l 1M $D; check "reads as zeroes" cmp -n 1048576 $D /dev/zero
check discard blkdiscard -o 1M -l 1M $D
check "FUA write" dd if=/dev/zero of=$D bs=4k count=8 oflag=direct,dsync
verb seen
for what in fua flushes discards zeroes; do
  if grep -qE "seen:.* $what [1-9]" $W/out; then ok "namespace saw $what"; else bad "no $what"; fi
done
says "nothing refused" "refused 0"
verb remove; gone

echo "--- no cache, no flush"
start --no-cache
is write_cache "$(cat $Q/write_cache)" "write through"; is fua "$(cat $Q/fua)" 0
check "synchronous write" dd if=/dev/zero of=$D bs=4k count=8 oflag=direct,dsync
verb seen; says "namespace saw neither" "fua 0 flushes 0"; verb remove; gone

echo "--- partitions, in use, resize"
truncate -s 16M $W/image # MBR: one partition of 8 MiB at 1 MiB, in 4 KiB blocks
printf '\0\0\0\0\203\0\0\0\0\001\0\0\0\010\0\0' | dd of=$W/image bs=1 seek=446 conv=notrunc 2>>$W/log
printf '\125\252' | dd of=$W/image bs=1 seek=510 conv=notrunc 2>>$W/log
start --image $W/image; sleep 1
check "partition" test -b ${D}p1
mkfs.ext4 -q ${D}p1 && mount ${D}p1 $W/m; verb "remove unused"; says "mounted" "is in use"
check "still there" test -b $D; umount $W/m
verb "resize 512"
if grep -q "live resize" $W/out; then ok "this kernel cannot resize"; else is size "$(blockdev --getsize64 $D)" 536870912; fi
verb "remove unused" 1; gone

echo "--- no path at all, removed while its partitions are being read"
start --paths 0; sleep 1; verb remove; gone

echo "--- removed under load"
start; fio_on --filename=$D --rw=randrw --bs=4k --iodepth=16 --runtime=30 & load=$!
sleep 3; verb remove 0; gone; wait $load && bad "fio noticed nothing" || ok "fio got an error"

echo "--- killed under load, recovered, abandoned, recovered, removed"
start --null; fio_on --filename=$D --rw=randrw --bs=4k --iodepth=16 --runtime=10 & load=$!
sleep 3; kill -9 $server; wait $server 2>/dev/null; exec 3>&-; sleep 1; check "device waits" test -b $D
start --null --recover 0; wait $load; is "fio's exit status" $? 0
verb abandon; wait $server; exec 3>&-; check "device waits" test -b $D
start --null --recover 0; check read dd if=$D of=/dev/null bs=1M count=2; verb remove; gone

echo "--- paths fall silent, break, return; none is left"
start --mib 128
fio --name=v --filename=$D --size=64m --rw=randrw --bsrange=4k-256k --ioengine=libaio --iodepth=16 \
  --direct=1 --verify=crc32c --verify_fatal=1 --verify_backlog=64 --verify_state_save=0 \
  --time_based --runtime=15 --output-format=terse >>$W/fio 2>&1 & load=$!
sleep 3; verb "silence 0" 1; verb "convict 0"; verb "fence 0"; verb "restore 0" 1
verb "cut 1"; verb "convict 1" 0.2; verb "fence 1"; verb "restore 1" 1
for v in cut convict fence; do verb "$v 0" 0.2; verb "$v 1" 0.2; done; sleep 1; verb "restore 0"
wait $load; is "fio's exit status" $? 0
says "break reported" "broken: Disconnected"; says "drain reported" "drained 1, quiet true"
says "failover reported" "FirstIo"; says "queueing reported" "QueueingStarted"
verb "cut 0"; verb "convict 0" 0.2; verb "fence 0"
fio_on --filename=$D --rw=randread --bs=4k --iodepth=4 --runtime=3 & load=$!
sleep 2; verb remove 0; gone; wait $load && bad "fio noticed nothing" || ok "queued I/O failed on removal"

dmesg | grep -E "BUG|WARNING|Oops|hung task|blocked for more" | tail -5
[ $status = 0 ] && echo "PASS all" || { echo FAIL; tail -20 $W/log $W/out | cut -c1-300; }
exit $status
