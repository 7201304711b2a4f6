"""The words and the letters of word-guess."""

from __future__ import annotations

# Common English words of four letters.
WORDS: tuple[str, ...] = tuple(
    """
    army away baby back bald ball band bank bare barn base bath bead bean beef beer bell belt bend
    best bike bill bird bite blow blue body boil bold bolt bomb book boot bore born boss bowl brew
    brim buck bulb bulk bull bump burn bush cake calf call calm camp cane card cart case cast cave
    chef chew chin chip chop clap clay clip club code cold cook cool cope copy cord cork corn cost
    cove crab crew crop crow cube curl dark dart data dawn dear deck deep deer desk dial dice dirt
    dish disk dock dome door down drag draw drip drop drum duck duel dull dune dusk dust duty east
    edge envy even face fact fair fall fame farm fear feed feel fern file fill film find fine fire
    firm fish fist flag flip flow foam fold folk food fool foot fork form fort fowl fund gale gate
    gift girl glad glow goat gold golf good gown grab gray grid grin grip grow gulf gull gust hail
    hall hand hard harm harp hawk heap heat heel help herd hero high hike hill hint hold hole holy
    home hook horn huge hunt hurt husk hymn inch iris iron item jump jury keel keen kelp kind king
    knee knot lady lamb lamp land lark last late lava leaf lean lens life lift lily lime limp line
    link lion list lock loft long loop loud luck lump lung lure mail mall malt many mark melt menu
    milk mill mind mine mint moat mood moon moss moth much myth nail navy near neck need nest news
    noon oath obey odor once only oval oven paid pail palm part path pave pile pink pint plan play
    plot plow plug plum poem poet pole polo pony pool pork port post pray prey pull pulp pump push
    race raft rage rain ramp rank real reed reef rein rest rich ride ring risk rock roll roof room
    rule rush rust safe salt sand scan seed sell send shed ship shoe shop show shut sick silk sing
    sink skin slam sled slow snap snow soak sock soft song soon soul sour spot star stem step stir
    stop such sunk surf swan swim talk tank task tear tent test than thaw thin tidy tile time tomb
    tone town trap tray tree trim trip true tube tune turf turn twig twin type ugly unit urge used
    vain vase vast veil verb vest view vine volt wage wait wake walk wall want warm warn wash wear
    weed week well west whip wide wife wild will wind wing wise wish wolf wool work worm wrap yard
    yarn yawn year yell yoga yolk
    """.split()
)

VOWELS = "aeiou"

# Sets of six consonants, such that no two share more than three.
CONSONANTS: tuple[str, ...] = tuple(
    """
    bcgpst bdfmpy ghmtwy dhkltw cdklms bhklnp fghksw glmpvy dfglny dfhkry dlrstv bgmnrv bclnry
    cdknvw cfhlpv cdmprv dknpst bfrtvw bdghlr hknrsv dgmnsw blmrsw lntvwy bcfkns cfkmrw
    """.split()
)
