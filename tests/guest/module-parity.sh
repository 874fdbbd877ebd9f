#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# Parity by the kernel's lib/raid is what the engine computes: for all numbers of fragments, short ones among them, and for known data.
#: modules: none
#: available: embrfs
#: timeout: 200
. /embrfs-guest/lib.sh
# Data fragments; which of them is empty, or -1; and of P and of Q the first 16 of 512 bytes, and their BLAKE3 hash. Byte n of data i is
# n * (2i + 3) + n / 7 + 29i. userspace/host/src/field.rs reads these lines too.
VECTORS='
2 -1 P 1d2121253d3929575f574f777f774945 b9d1598ce70514143b06ff5e2c0fc9c6b103d065b325b801f3fb887a45e8ff4b
2 -1 Q 3a4748516e636494958abf889196e6fb 6264767c1eba92f6473a5ef78c4610743c5510cdae2c604c947aeb8bc75fdd86
4 -1 P 7000001810e0c0ac8c847c44342c0000 1cec8667073fec19283552b13ddbc639ab9f97fb360f510430b06e15efe9168c
4 -1 Q 50791ac7d45ef5f52d5e7823f9d25206 c944f3dfcd4047e145565365e2c8accf5158bd07b14ae67f299a71ab8b1080bf
4 1 P 6d22273421d6fbedcacf2c116e73656a 0e3ad3c656f039a8dc6b426b562ad370c4d9f96fe5d7ea23326f2054c3dbdca8
4 1 Q 6a3d549fb6328377a1c8d8894d6c98d2 e55b578afb05e79f6fc52ab3ce09eef64ee7a3c2fadc30b00ac1729e6abf8031
8 -1 P f0800010904090d8c808b85818c86010 07e74589bfed9a5c1253920c39db049ad235e4f4f7d484ff4cf5169eb802af1c
8 -1 Q 21be6cda480227f1374e4121115a42d0 ac49fb079d2f0849997dd271af8ecd0e89ac46ccc368cb03717f640aa0099ba0
16 -1 P 0080000020c0c0b050d030b0b0f04080 48aa083bca82d7ce4c5c9958f6b96ecd3dd8420527ca04155ee38c0b157e0bc4
16 -1 Q 90e29c07d75ba68c86a3c58a611238dc deb60cb42a151e043703b55b024cf84cea8dd373e2c35b14aa1773e215b2ce74
16 15 P b354f5161798b92bec0dceaff091c324 b1607f9f09d6e3a719d584d77583ba968580e82d35de715e95673c8e5d59e718
16 15 Q febf5389cb59367b37f54d0f14f5b81a a6bab63b5daee20a2d050fff0c553ae1be066767330dbbe1fbad8e002ec0e950
'
must load_module embrfs parity_test=1
if dmesg | grep 'lib/raid gives wrong results'; then fail "lib/raid and the engine differ"; fi
must sh -c "dmesg | grep -E 'embrfs: (parity by lib/raid|parity_test: ok)$' | wc -l"
expect_eq "$OUT" 2 "lines that say so"
expect_eq "$(dmesg | sed -n 's/.*embrfs: parity_test: vector //p')" "$(sed '/^$/d' <<<"$VECTORS")" "P and Q of known data"
must unload_module embrfs

must load_module embrfs parity_bench=1
must sh -c "dmesg | grep 'embrfs: parity_bench: '"
expect_in "$OUT" ' 4\+2: copy [0-9]+ MiB/s, scalar [0-9]+ MiB/s, lib/raid [0-9]+ MiB/s'
expect_in "$OUT" 'products: by doubling [0-9]+ MiB/s, by table [0-9]+ MiB/s; sums [0-9]+ MiB/s'
must unload_module embrfs
