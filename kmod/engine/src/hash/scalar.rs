// SPDX-License-Identifier: GPL-2.0

//! BLAKE3 in plain arithmetic, hash mode only: no key, no derivation, 32 bytes of output.
//!
//! The input is cut into chunks of 1024 bytes, a chunk into blocks of 64; chaining values of chunks pair up into a
//! binary tree whose left subtrees are full. The state holds one chaining value per level that waits for its partner.

const OUT: usize = 32;
const BLOCK: usize = 64;
const CHUNK: usize = 1024;

const CHUNK_START: u32 = 1;
const CHUNK_END: u32 = 2;
const PARENT: u32 = 4;
const ROOT: u32 = 8;

/// Levels of the tree that fit: inputs up to 4 MiB, above anything that embrfs hashes, on a small stack.
const LEVELS: usize = 12;

const IV: [u32; 8] = [
    0x6a09_e667,
    0xbb67_ae85,
    0x3c6e_f372,
    0xa54f_f53a,
    0x510e_527f,
    0x9b05_688c,
    0x1f83_d9ab,
    0x5be0_cd19,
];

type Chain = [u32; 8];

macro_rules! mix {
    ($v:ident, $a:literal, $b:literal, $c:literal, $d:literal, $x:expr, $y:expr) => {
        $v[$a] = $v[$a].wrapping_add($v[$b]).wrapping_add($x);
        $v[$d] = ($v[$d] ^ $v[$a]).rotate_right(16);
        $v[$c] = $v[$c].wrapping_add($v[$d]);
        $v[$b] = ($v[$b] ^ $v[$c]).rotate_right(12);
        $v[$a] = $v[$a].wrapping_add($v[$b]).wrapping_add($y);
        $v[$d] = ($v[$d] ^ $v[$a]).rotate_right(8);
        $v[$c] = $v[$c].wrapping_add($v[$d]);
        $v[$b] = ($v[$b] ^ $v[$c]).rotate_right(7);
    };
}

macro_rules! round {
    ($v:ident, $m:ident, $($i:literal)*) => { round!(@ $v, [$($m[$i]),*]) };
    (@ $v:ident, [$a:expr, $b:expr, $c:expr, $d:expr, $e:expr, $f:expr, $g:expr, $h:expr,
                  $i:expr, $j:expr, $k:expr, $l:expr, $m:expr, $n:expr, $o:expr, $p:expr]) => {
        mix!($v, 0, 4, 8, 12, $a, $b);
        mix!($v, 1, 5, 9, 13, $c, $d);
        mix!($v, 2, 6, 10, 14, $e, $f);
        mix!($v, 3, 7, 11, 15, $g, $h);
        mix!($v, 0, 5, 10, 15, $i, $j);
        mix!($v, 1, 6, 11, 12, $k, $l);
        mix!($v, 2, 7, 8, 13, $m, $n);
        mix!($v, 3, 4, 9, 14, $o, $p);
    };
}

/// One compression, in a frame of its own: inlined, its words would be on the stack of all callers. Only the first half of the result is needed for 32 bytes of output.
#[inline(never)]
fn compress(chain: &Chain, block: &[u8; BLOCK], counter: u64, len: u32, flags: u32) -> Chain {
    let mut m = [0u32; 16];
    for (word, bytes) in m.iter_mut().zip(block.chunks_exact(4)) {
        if let Ok(bytes) = bytes.try_into() {
            *word = u32::from_le_bytes(bytes);
        }
    }
    let mut v = [
        chain[0],
        chain[1],
        chain[2],
        chain[3],
        chain[4],
        chain[5],
        chain[6],
        chain[7],
        IV[0],
        IV[1],
        IV[2],
        IV[3],
        counter as u32,
        (counter >> 32) as u32,
        len,
        flags,
    ];
    // The message permutation, applied ahead of time to the indices of each of the seven rounds.
    round!(v, m, 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15);
    round!(v, m, 2 6 3 10 7 0 4 13 1 11 12 5 9 14 15 8);
    round!(v, m, 3 4 10 12 13 2 7 14 6 5 9 0 11 15 8 1);
    round!(v, m, 10 7 12 9 14 3 13 15 4 0 11 2 5 8 1 6);
    round!(v, m, 12 13 9 11 15 10 14 8 7 2 5 3 0 1 6 4);
    round!(v, m, 9 14 11 5 8 12 15 1 13 3 0 10 2 6 4 7);
    round!(v, m, 11 15 5 0 1 9 8 6 14 10 2 12 3 4 7 13);
    [
        v[0] ^ v[8],
        v[1] ^ v[9],
        v[2] ^ v[10],
        v[3] ^ v[11],
        v[4] ^ v[12],
        v[5] ^ v[13],
        v[6] ^ v[14],
        v[7] ^ v[15],
    ]
}

fn parent_block(left: &Chain, right: &Chain) -> [u8; BLOCK] {
    let mut block = [0u8; BLOCK];
    for (bytes, word) in block.chunks_exact_mut(4).zip(left.iter().chain(right)) {
        bytes.copy_from_slice(&word.to_le_bytes());
    }
    block
}

/// A hash under way.
pub(super) struct State {
    /// Chaining value within the current chunk.
    chain: Chain,
    /// Bytes of the current chunk's block that is not yet compressed.
    block: [u8; BLOCK],
    block_len: usize,
    /// Bytes of the current chunk that are compressed.
    chunk_done: usize,
    /// The current chunk's index.
    chunk: u64,
    /// Finished subtrees that wait for their right sibling, largest first.
    waiting: [Chain; LEVELS],
    waiting_len: usize,
}

impl State {
    pub(super) fn new() -> Self {
        State {
            chain: IV,
            block: [0; BLOCK],
            block_len: 0,
            chunk_done: 0,
            chunk: 0,
            waiting: [[0; 8]; LEVELS],
            waiting_len: 0,
        }
    }

    fn start_flag(&self) -> u32 {
        if self.chunk_done == 0 {
            CHUNK_START
        } else {
            0
        }
    }

    /// Takes in `input`. A block is compressed only once more input follows it: the last one gets flags of its own.
    #[inline(never)]
    pub(super) fn update(&mut self, mut input: &[u8]) {
        while !input.is_empty() {
            if self.block_len == BLOCK {
                let full_chunk = self.chunk_done == CHUNK - BLOCK;
                let end = if full_chunk { CHUNK_END } else { 0 };
                let flags = self.start_flag() | end;
                self.chain = compress(&self.chain, &self.block, self.chunk, BLOCK as u32, flags);
                self.block_len = 0;
                self.chunk_done += BLOCK;
                if full_chunk {
                    self.finish_chunk();
                }
            }
            let take = input.len().min(BLOCK - self.block_len);
            let (now, rest) = input.split_at(take);
            if let Some(room) = self.block.get_mut(self.block_len..self.block_len + take) {
                room.copy_from_slice(now);
            }
            self.block_len += take;
            input = rest;
        }
    }

    /// A chunk is complete and more follows: merges it with every finished subtree of its own size.
    fn finish_chunk(&mut self) {
        self.chunk += 1;
        let mut subtree = core::mem::replace(&mut self.chain, IV);
        for _ in 0..self.chunk.trailing_zeros() {
            if let Some(left) = self.pop() {
                subtree = compress(&IV, &parent_block(&left, &subtree), 0, BLOCK as u32, PARENT);
            }
        }
        debug_assert!(self.waiting_len < LEVELS, "input above 4 MiB");
        if let Some(place) = self.waiting.get_mut(self.waiting_len) {
            *place = subtree;
            self.waiting_len += 1;
        }
        self.chunk_done = 0;
    }

    fn pop(&mut self) -> Option<Chain> {
        self.waiting_len = self.waiting_len.checked_sub(1)?;
        self.waiting.get(self.waiting_len).copied()
    }

    /// The hash of all input.
    #[inline(never)]
    pub(super) fn finish(&mut self) -> [u8; OUT] {
        if let Some(unused) = self.block.get_mut(self.block_len..) {
            unused.fill(0);
        }
        let root = |last: bool| if last { ROOT } else { 0 };
        let flags = self.start_flag() | CHUNK_END | root(self.waiting_len == 0);
        let mut right = compress(
            &self.chain,
            &self.block,
            self.chunk,
            self.block_len as u32,
            flags,
        );
        while let Some(left) = self.pop() {
            let flags = PARENT | root(self.waiting_len == 0);
            right = compress(&IV, &parent_block(&left, &right), 0, BLOCK as u32, flags);
        }
        let mut out = [0u8; OUT];
        for (bytes, word) in out.chunks_exact_mut(4).zip(&right) {
            bytes.copy_from_slice(&word.to_le_bytes());
        }
        out
    }
}
