use proptest::prelude::*;

use super::*;

const CHAT: Bounds = Bounds {
    units_max: 110,
    input_units: 10,
    output_max: 100,
    answers: 1,
    may_be_cut: true,
    yields: Yield { units_per_byte: None, bytes_per_unit: Some(16) },
};
const ONE: Bounds =
    Bounds { units_max: 1, input_units: 1, output_max: 0, may_be_cut: false, ..CHAT };

fn begun(bounds: Bounds, limit: u64) -> Meter {
    let mut meter = Meter::new(bounds);
    meter.begin(limit);
    meter
}

fn claim(units: u64) -> Usage {
    Usage { units, input: 0, output: units }
}

/// Something that is no content, such as a role.
const BESIDE: Content =
    Content { bytes: 0, begins_white: false, ends_white: false, counts: false, is_hollow: false };
/// Text of white space.
const WHITE: Content = Content { ends_white: true, ..BESIDE };

#[test]
fn a_greedy_count_is_cut_to_what_was_sent() {
    let mut meter = begun(CHAT, 1_000);
    let taken = meter.piece(Content::plain(5), 1_000_000);
    assert_eq!(taken, Ok(Metered { units: 15, exhausted: false }));
    let taken = meter.piece(Content::plain(500), 1_000_000);
    assert_eq!(taken, Ok(Metered { units: 110, exhausted: false }));
}

#[test]
fn the_ceiling_ends_a_stream_that_may_be_cut() {
    let mut meter = begun(CHAT, 12);
    let piece = Content::plain(200);
    assert_eq!(meter.piece(piece, 11), Ok(Metered { units: 11, exhausted: false }));
    assert_eq!(meter.piece(piece, 13), Ok(Metered { units: 12, exhausted: true }));
    meter.begin(12);
    assert_eq!(meter.now(), Metered { units: 0, exhausted: false });
    let mut meter = begun(ONE, 1);
    assert_eq!(meter.piece(Content::plain(9), 9), Ok(Metered { units: 1, exhausted: false }));
}

#[test]
fn what_is_no_content_is_paid_for_by_nobody() {
    for bounds in [CHAT, ONE] {
        let mut meter = begun(bounds, 1_000);
        for piece in [BESIDE, WHITE, Content::plain(0)] {
            assert_eq!(meter.piece(piece, 50).map(|metered| metered.units), Ok(0));
        }
        assert_eq!(meter.complete(None, claim(50)), Err(ChunkError::Nothing));
        assert_eq!(meter.complete(Some(BESIDE), claim(1)), Err(ChunkError::Nothing));
        // A model that has nothing to say claims nothing.
        assert_eq!(meter.complete(None, claim(0)), Ok(()));
        assert_eq!(meter.usage().units, 0);
    }
    // Of nothing at all there is no answer, whatever is claimed.
    for units in [0, 1] {
        assert_eq!(begun(CHAT, 9).complete(None, claim(units)), Err(ChunkError::Nothing));
        let hollow = Some(Content::plain(0));
        assert_eq!(begun(CHAT, 9).complete(hollow, claim(units)), Err(ChunkError::Nothing));
    }
}

#[test]
fn a_run_of_white_space_is_one_byte_in_however_many_pieces() {
    let mut meter = begun(CHAT, 1_000);
    let word = Content { bytes: 3, begins_white: false, ends_white: false, ..Content::plain(3) };
    let mut say = |piece| meter.piece(piece, 1_000).map(|metered| metered.units);
    assert_eq!(say(WHITE), Ok(0));
    assert_eq!(say(word), Ok(13));
    for _ in 0..100 {
        assert_eq!(say(WHITE), Ok(13));
    }
    assert_eq!(say(word), Ok(17));
    assert_eq!(say(Content { begins_white: true, ends_white: true, ..word }), Ok(21));
    assert_eq!(say(Content { begins_white: true, ..word }), Ok(25));
    assert_eq!(say(word), Ok(28));
}

#[test]
fn an_answer_that_is_said_twice_is_one() {
    let mut meter = begun(CHAT, 1_000);
    meter.piece(Content::plain(20), 25).unwrap();
    meter.complete(Some(Content::plain(20)), claim(1_000)).unwrap();
    assert_eq!(meter.usage().units, 30);
}

#[test]
fn longer_than_it_can_be_is_not_taken() {
    let most = 100 * 16 + BYTES_FREE;
    let beyond = Err(ChunkError::Beyond { most });
    let mut meter = begun(CHAT, 1_000);
    assert_eq!(meter.complete(Some(Content::plain(most + 1)), claim(1)), beyond);
    assert!(meter.piece(Content::plain(most), 1).is_ok());
    assert_eq!(meter.piece(Content::plain(1), 1).map(|_| ()), beyond);
    assert_eq!(meter.usage().units, 1, "and changes nothing");
    // What the ceiling buys is less.
    let most = 20 * 16 + BYTES_FREE;
    let meter = begun(CHAT, 20).piece(Content::plain(most + 1), 1);
    assert_eq!(meter, Err(ChunkError::Beyond { most }));
    let any = Bounds { yields: Yield::default(), ..CHAT };
    assert!(begun(any, 20).piece(Content::plain(u64::MAX), 1).is_ok());
}

#[test]
fn a_byte_of_sound_is_no_minute() {
    let yields = Yield { units_per_byte: Some(2), bytes_per_unit: None };
    let speech = Bounds { units_max: 60_000, yields, ..ONE };
    let mut meter = begun(speech, 60_000);
    assert_eq!(meter.piece(Content::plain(4), 60_000).unwrap().units, 8);
    meter.complete(Some(BESIDE), claim(60_000)).unwrap();
    assert_eq!(meter.usage().units, 8);
}

fn contents() -> impl Strategy<Value = Content> {
    let flags = any::<(bool, bool, bool, bool)>();
    (0_u64..300, flags).prop_map(|(bytes, (begins_white, ends_white, counts, is_hollow))| {
        let counts = counts || bytes > 0;
        Content { bytes, begins_white, ends_white, counts, is_hollow: is_hollow && !counts }
    })
}

fn bounds() -> impl Strategy<Value = Bounds> {
    let numbers = (0_u64..1_000, 0_u64..1_000, any::<bool>());
    let yields = (prop::option::of(1_u64..4), prop::option::of(1_u64..4));
    (numbers, yields).prop_map(|((input, output, cut), (units_per_byte, bytes_per_unit))| Bounds {
        units_max: input + output,
        input_units: input,
        output_max: output,
        answers: 1,
        may_be_cut: cut,
        yields: Yield { units_per_byte, bytes_per_unit },
    })
}

proptest! {
    /// Every word of a worker may be a lie.
    #[test]
    fn never_above_claim_content_bound_or_limit(
        bounds in bounds(), limit in 0_u64..3_000,
        pieces in prop::collection::vec((contents(), 0_u64..4_000), 0..8),
        result in prop::option::of(contents()),
        last in 0_u64..4_000, parts in (0_u64..4_000, 0_u64..4_000),
    ) {
        let Bounds { units_max, input_units: input, output_max: output, yields, .. } = bounds;
        let mut meter = begun(bounds, limit);
        // Runs between pieces are a byte each.
        let (mut sent, mut any, mut before) = (0, false, 0);
        for (content, count) in pieces {
            let was = meter.usage();
            let Ok(metered) = meter.piece(content, count) else {
                prop_assert!(yields.bytes_per_unit.is_some());
                prop_assert_eq!(meter.usage(), was, "what is not taken changes nothing");
                continue;
            };
            sent += content.bytes + u64::from(sent > 0);
            any |= content.counts;
            prop_assert!(metered.units >= before, "running units never fall");
            prop_assert!(metered.units <= limit.min(units_max));
            prop_assert!(any || metered.units == 0, "before anything came nothing is paid");
            if bounds.may_be_cut {
                prop_assert!(metered.units <= input + sent.min(output));
            } else if let Some(each) = yields.units_per_byte {
                prop_assert!(metered.units <= sent * each);
            }
            before = metered.units;
        }
        let claim = Usage { units: last, input: parts.0, output: parts.1 };
        match meter.complete(result, claim) {
            Ok(()) => {
                any |= result.is_some_and(|result| result.counts);
                prop_assert!(any || last == 0, "nothing for nothing");
                let usage = meter.usage();
                prop_assert!(usage.units <= last.min(limit).min(units_max));
                prop_assert!(usage.input + usage.output <= usage.units);
                let sent = if sent > 0 { sent } else { result.map_or(0, |result| result.bytes) };
                prop_assert!(!bounds.may_be_cut || usage.units <= input + sent.min(output));
            }
            Err(ChunkError::Nothing) => {
                prop_assert!(!any && !result.is_some_and(|result| result.counts));
            }
            Err(ChunkError::Beyond { most }) => {
                prop_assert!(result.is_some_and(|result| result.bytes > most));
            }
            Err(other) => prop_assert!(false, "{other}"),
        }
    }
}
