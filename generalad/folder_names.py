"""What people call folders of good parts, of defects, of masks, and of nothing in particular."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

_GOOD = """
    good goods ok okay normal normals nominal pass passed clean fine intact perfect flawless
    healthy undamaged accept accepted conforming conform regular defectfree nodefect nodefects
    nondefective notdefective undefective noanomaly nonanomalous nodamage noerror
    io gut gute gutteil gutteile fehlerfrei inordnung einwandfrei
    bon bons bonne bonnes conforme conformes
    sansdefaut bien bueno buenos buena buenas correcto sindefecto buono buoni buona buone
    senzadifetti bom boa bons semdefeito goed goedgekeurd bra godkand godkjent hyva dobry dobre
    dobra dobrze dobri poprawny jo iyi saglam khoroshie
    parfait parfaits perfekt perfekte tadellos makellos einwandfreie intakt nichtdefekt
    impecable aceptado aceptados aprobado aprobados accettato accettati conformi
    ok品
    良品 合格 合格品 正常 良好 好 好品 正常品 良 無欠陥 無欠陥品 无缺陷 양품 정상 합격
    годный годные норма хороший хорошие нормальные
"""
_REJECTED = """
    bad faulty ng nok ko fail failed reject rejects rejected defective notgood notok notokay nogood
    unacceptable nonconforming nio nichtio schlecht schlechte ausschuss fehlerhaft defekt mangelhaft
    schlechtteil schlechtteile nichtinordnung nichtgut rework reworked nacharbeit quarantine suspect
    suspects gesperrt sperrlager verdacht reklamation reklamationen retouren nonconforme noconforme
    defectueux rebut rebuts mauvais mauvaise malos defectuoso rechazado rechazados difettoso scarti
    defeituoso rejeitado afgekeurd kapot wadliwy vadny hatali
    ng品 不良 不良品 不合格 不合格品 欠陥品 次品 废品 廢品 坏品 负样本 返工 不良图
    불량 불량품 불합격 брак бракованные негодные
"""
_DEFECTIVE = """
    fault faults failure abnormal anomaly
    anomalies anomalous anomal defect defects defected damage damaged broken break
    scrap waste error errors outlier outliers
    scratch scratches scratched crack cracks cracked dent dents dented rust rusty rusted nick nicks
    hole holes stain stains stained bent missing cut cuts contamination contaminated dirty dirt
    chip chips chipped tear torn burr burrs blister corrosion corroded squeeze poke misprint
    fehler defekte kratzer riss risse
    delle beschaedigt ano anom abn nonconform
    nonconformi nonok nichtkonform ungut mangel maengel schaden
    schadhaft kaputt schrott abfall pasbon casse casses fissure fissures
    rejet rejets roto rotos danado danados dano mancha grieta rechazo rechazos rotto rotti guasto
    guasti macchia crepa quebrado risco trinca kras
    defaut defauts defectueuse defectueuses rayure malo mala
    defecto defectos rayado cattivo cattivi difetto difetti scarto
    graffio ruim defeito defeitos refugo slecht fel vika zly zle wada wady
    kotu returns returned uncertain unsure unclear unklar
    欠陥 异常 異常 缺陷 瑕疵 坏 划痕 劃痕 裂纹 裂紋 キズ 傷 汚れ 打痕 결함 дефект дефекты дефектные
"""
_MASKS = """
    mask masks label labels gt groundtruth seg segs segmentation segmentations segmask annotation
    annotations annotated anno annos annot labelmask maske masken etikett masque masques mascara
    mascaras maschera maschere マスク 掩码 标签 마스크
"""
_WHEN_AND_WHERE = """
    monday tuesday wednesday thursday friday saturday sunday mon tue wed thu fri sat sun
    montag dienstag mittwoch donnerstag freitag samstag sonntag lundi mardi mercredi jeudi vendredi
    january february march april may june july august september october november december
    jan feb mar apr jun jul aug sep sept oct nov dec januar februar märz maerz mai juni juli oktober
    dezember morning noon afternoon evening night early late day days today yesterday week month
    year date shift schicht session run series serie batch lot los charge line linie station cell
    camera cam kamera view side top bottom left right front back rear inner outer upper lower
    ch channel roll tray box crate pallet nest cavity machine press site plant
"""
_FILLING = """
    part parts image images img imgs picture pictures pic pics photo photos foto fotos frame frames
    sample samples example examples piece pieces item items product products component components
    unit units teile teil bild bilder pieza piezas pezzi data dataset only all the of und and src
    input original originals raw shot shots capture captures new old more set one ones
"""


def words_in(name: str) -> list[str]:
    """The words of a name in lower case, without accents and the numbers around them."""
    spread = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", unicodedata.normalize("NFKC", name))
    plain = "".join(
        letter
        for letter in unicodedata.normalize("NFKD", spread.casefold())
        if not unicodedata.combining(letter)
    )
    plain = unicodedata.normalize("NFKC", plain)
    return [word for word in re.split(r"[\W\d_]+", plain) if word]


def _words(text: str) -> frozenset[str]:
    return frozenset("".join(words_in(word)) for word in text.split())


_GOOD_WORDS, _VERDICTS = _words(_GOOD), _words(_REJECTED)
_DEFECT_WORDS = _VERDICTS | _words(_DEFECTIVE)
_UNSPACED = re.compile(r"[\u3040-\u9fff\uac00-\ud7a3]{2,}")
_GOOD_UNSPACED, _DEFECT_UNSPACED, _VERDICTS_UNSPACED = (
    frozenset(filter(_UNSPACED.fullmatch, words))
    for words in (_GOOD_WORDS, _DEFECT_WORDS, _VERDICTS)
)
_FILLERS, _PLACES = _words(_FILLING), _words(_WHEN_AND_WHERE)
_PLAIN = _PLACES | _FILLERS
MASK_WORDS = _words(_MASKS)
"""Words by which files and folders of masks are called."""

_CLASS_WORDS = _words("class classes cls category cat type typ kind label klasse classe sort group")


def _meant(name: str) -> set[str]:
    """A name as one word, with and without words that say nothing: "i.O.", "Good parts 2"."""
    words = words_in(name)
    return {"".join(words), "".join(word for word in words if word not in _FILLERS)} - {""}


def _longest_within(name: str, words: Iterable[str]) -> int:
    """Letters of the longest word in a name whose script puts no spaces between words."""
    text = "".join(words_in(name))
    return max((len(word) for word in words if word in text), default=0)


def is_good_name(name: str) -> bool:
    """Whether a folder or label is called by a word for good, in some language and spelling."""
    if _meant(name) & _GOOD_WORDS:
        return True
    return _longest_within(name, _GOOD_UNSPACED) > _longest_within(name, _DEFECT_UNSPACED)


def is_defect_name(name: str) -> bool:
    """Whether a folder is called by a word for defects."""
    if is_only_defect_name(name):
        return True
    return not is_good_name(name) and bool(set(words_in(name)) & _DEFECT_WORDS)


def is_only_defect_name(name: str) -> bool:
    """The same of a name that says nothing else, as "NG 1" but not "washers without rust"."""
    if _meant(name) & _DEFECT_WORDS:
        return True
    longest = _longest_within(name, _DEFECT_UNSPACED)
    return longest > 0 and longest >= _longest_within(name, _GOOD_UNSPACED)


def says_rejected(name: str) -> bool:
    """Whether a word of a name judges parts as no good ones, as "washer NG" but not "chip 7"."""
    if not is_defect_name(name):
        return False
    found = set(words_in(name)) | _meant(name)
    return bool(found & _VERDICTS) or _longest_within(name, _VERDICTS_UNSPACED) > 0


def is_mask_name(name: str) -> bool:
    """Whether a folder is called by a word for masks."""
    return bool((_meant(name) | set(words_in(name))) & MASK_WORDS)


def _says_what_is_numbered(name: str) -> bool:
    """Whether a name says that folders in it are lots, cameras, days of a year ..."""
    words = {word.removesuffix("s") for word in words_in(name)} & _PLACES
    return bool(words) or re.search(r"(?<!\d)(19|20)\d\d(?!\d)", name) is not None


def is_series(names: Iterable[str], *, within: Iterable[str] = ()) -> bool:
    """Whether names say when and where, or number one thing: no classes of parts.

    Args:
        names: of folders that lie beside each other.
        within: of the folders that they lie in.
    """
    names = list(names)
    # Programs and people number classes from 0 or 1, as people number lots and cameras.
    numbers = sorted(int(name) for name in names if re.fullmatch(r"\d{1,2}", name))
    if len(numbers) == len(names) and numbers in (
        list(range(len(names))),
        list(range(1, len(names) + 1)),
    ):
        return any(map(_says_what_is_numbered, within))
    words = [{word for word in words_in(name) if len(word) > 1} for name in names]
    if set.union(*words) & _CLASS_WORDS:
        return False
    stems = {re.sub(r"\d+", "0", name.casefold()) for name in names}
    return 1 == len(stems) < len(names) or all(
        found <= _PLAIN and (found or re.search(r"\d", name))
        for name, found in zip(names, words, strict=True)
    )
