"""The letters, words and favorite letters of word-guess."""

from __future__ import annotations

LETTERS = "abcdefghiklmnoprstuw"

# Common English words of four letters, without j, q, v, x, y and z.
WORDS: tuple[str, ...] = tuple(
    """
    able aged area back bald ball band bank bead beak beam bean beef bell belt bend bike bill bind
    bird bite blow blue boil bold bolt bomb bond book boot born bowl brim buck bulb bulk bull bump
    burn cafe cake calf call calm camp card cart case cast cell chew clap clip club clue coil coin
    cold cook cool cord corn cost dark dart data date dear deer diet dirt doll dome door down drip
    drop drum dull each east edge epic face fact fade fall fame fast fear feed feel file fill film
    fire firm fist flag flat flea flip flow fold food fool foot form fort four fowl free frog full
    fund gale game gear girl glad glow gold golf good gown grab grin grow gulf gull gust hall hand
    hard harp heap hear heat heel hill hook horn host hunt hurt icon idle iris iron isle item keel
    kelp kick knee knot lace lake lamb lamp lane lark last late leaf leak lean left life lift lime
    limp line lion list lock loft long look loop loud luck lump lung make mall malt mare mark mast
    meal meat melt menu milk mill mind mine mint mist mood moon moss moth mule name near neat neck
    nest news nine noon nose note oath page paid pair palm park part path pear peel pier pile pink
    pint pipe plan plot plug plum polo pond pool pork port post pour pull pulp pump race raft rage
    ramp rank rare rate read reef rent rest rice ride riot ripe roll roof room rush rust safe salt
    scan seal seat sell shut sick sign sing sink site skin slip slow snap snow sock soft soil song
    soon soup spot spur star stem step stir stop sunk surf swan tale tall tame tank tape task team
    tear term test than thin tide tile time toll tomb tool trap trim trip tuna tune turf turn twig
    upon wage wake walk wall want warn wash weak week well wide wife wild will wind wine wing wire
    wise wolf wood wool
    """.split()  # noqa: SIM905 - a word list is read more easily so
)

VOWELS = ("ae", "ei", "io", "ou", "ua")

# Consonants that make many words together; no two sets share more than three.
CONSONANTS: tuple[str, ...] = tuple(
    """
    flpst cklmp bdlnw flmrt mprst hnrst bdfgl bdlmt bchkl cfrst dknpr fglrw glnsw glmpw dhprt
    bklpw cknst bdmnr cfglp lmnpt
    """.split()  # noqa: SIM905 - a word list is read more easily so
)
