use futures_util::Stream;
use proptest::prelude::*;

use super::body::{Chunk, exactly};
use super::*;

fn collect(stream: impl Stream<Item = Chunk>) -> Result<Vec<Bytes>, String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    runtime.block_on(async {
        let all: Vec<_> = stream.collect().await;
        all.into_iter()
            .map(|chunk| chunk.map_err(|e| e.to_string()))
            .collect()
    })
}

proptest! {
    /// However the source splits them, the same bytes come out.
    #[test]
    fn splits_do_not_matter(pieces in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..600), 0..20)) {
        let whole: Vec<u8> = pieces.concat();
        let source = stream::iter(pieces.into_iter().map(|p| Ok(Bytes::from(p)))).boxed();
        let sent = collect(steady(exactly(whole.len() as u64, source), KEEP_ALIVE)).unwrap();
        prop_assert_eq!(sent.concat(), whole);
    }

    /// A source of another length than announced is an error, never a shorter or longer file.
    #[test]
    fn another_length_is_an_error(size in 0u64..2000, off in 1u64..500, longer: bool) {
        let given = if longer { size + off } else { size.saturating_sub(off) };
        prop_assume!(given != size);
        let source = stream::iter([Ok(Bytes::from(vec![0; given as usize]))]).boxed();
        prop_assert!(collect(steady(exactly(size, source), KEEP_ALIVE)).is_err());
    }
}

#[test]
fn a_source_that_stalls_is_bridged_by_single_bytes() {
    let pause = Duration::from_millis(20);
    let source = stream::unfold(0, move |n| async move {
        if n == 1 {
            tokio::time::sleep(pause * 10).await;
        }
        (n < 2).then(|| (Ok(Bytes::from_static(b"0123456789")), n + 1))
    });
    let sent = collect(steady(source, pause)).unwrap();
    assert_eq!(sent.concat(), b"01234567890123456789");
    assert!(sent.len() > 3 && sent[0].len() == 1, "{sent:?}");
}
