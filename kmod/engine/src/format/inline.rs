// SPDX-License-Identifier: GPL-2.0

//! A block of a file that lies in the tree itself: its bytes, without the zeros at the end.

use crate::error::NoMem;
use crate::units::BLOCK_SIZE;
use embr_rt::Vec;

/// The version of such items.
pub const VERSION: u8 = 1;
const _: () = assert!(BLOCK_SIZE < crate::format::node::MAX_VALUE);

/// The item's value for this block.
pub fn encode(block: &[u8]) -> Result<Vec<u8>, NoMem> {
    let end = block.iter().rposition(|b| *b != 0);
    let bytes = block
        .get(..end.map_or(0, |last| last.saturating_add(1)))
        .unwrap_or_default();
    let mut value = Vec::try_with_capacity(bytes.len().saturating_add(1))?;
    value.push(VERSION)?;
    value.try_extend_from_slice(bytes)?;
    Ok(value)
}

/// The block's bytes, behind which there are zeros; none where the value makes no sense.
pub fn parse(value: &[u8]) -> Option<&[u8]> {
    match value.split_first() {
        Some((&VERSION, bytes)) if bytes.len() <= BLOCK_SIZE => Some(bytes),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zeros_at_the_end_are_cut_off() {
        let mut block = std::vec![0; BLOCK_SIZE];
        assert_eq!(&encode(&block).unwrap()[..], &[VERSION]);
        block[2] = 7;
        assert_eq!(&encode(&block).unwrap()[..], &[VERSION, 0, 0, 7]);
        block[BLOCK_SIZE - 1] = 1;
        assert_eq!(parse(&encode(&block).unwrap()), Some(&block[..]));
    }

    #[test]
    fn what_cannot_be_is_refused() {
        assert_eq!(parse(&[]), None);
        assert_eq!(parse(&[2, 1]), None);
        let mut long = std::vec![VERSION; BLOCK_SIZE + 2];
        assert_eq!(parse(&long), None);
        long.pop();
        assert!(parse(&long).is_some());
    }
}
