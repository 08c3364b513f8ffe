"""Textbook facts that the medicine source asks for. Not medical advice.

Written for this project, of what no textbook disputes: which nerve moves a muscle, where a hormone
is made, what a score counts. Within a group every item has one answer, and no answer serves two
items, so that each can be asked both ways and stand as a wrong option for the others.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Group:
    """Pairs of item and answer. ask, ask_back: the questions, {} stands for item or answer."""

    ask: str
    ask_back: str
    pairs: tuple[tuple[str, str], ...]


CRANIAL_NERVES: Final = Group(
    "Which is cranial nerve {}?",
    "Which number has the {}?",
    (
        ("I", "olfactory nerve"),
        ("II", "optic nerve"),
        ("III", "oculomotor nerve"),
        ("IV", "trochlear nerve"),
        ("V", "trigeminal nerve"),
        ("VI", "abducens nerve"),
        ("VII", "facial nerve"),
        ("VIII", "vestibulocochlear nerve"),
        ("IX", "glossopharyngeal nerve"),
        ("X", "vagus nerve"),
        ("XI", "accessory nerve"),
        ("XII", "hypoglossal nerve"),
    ),
)

MUSCLES: Final = Group(
    "Which nerve supplies the {} with motor fibres?",
    "Which of these muscles does the {} supply with motor fibres?",
    (
        ("deltoid", "axillary nerve"),
        ("biceps brachii", "musculocutaneous nerve"),
        ("triceps brachii", "radial nerve"),
        ("serratus anterior", "long thoracic nerve"),
        ("latissimus dorsi", "thoracodorsal nerve"),
        ("supraspinatus", "suprascapular nerve"),
        ("pronator teres", "median nerve"),
        ("adductor pollicis", "ulnar nerve"),
        ("quadriceps femoris", "femoral nerve"),
        ("adductor longus", "obturator nerve"),
        ("gluteus maximus", "inferior gluteal nerve"),
        ("gluteus medius", "superior gluteal nerve"),
        ("soleus", "tibial nerve"),
        ("tibialis anterior", "deep fibular nerve"),
        ("fibularis longus", "superficial fibular nerve"),
        ("diaphragm", "phrenic nerve"),
        ("trapezius", "accessory nerve"),
        ("masseter", "mandibular nerve"),
        ("orbicularis oculi", "facial nerve"),
        ("lateral rectus", "abducens nerve"),
        ("superior oblique", "trochlear nerve"),
        ("medial rectus", "oculomotor nerve"),
        ("stylopharyngeus", "glossopharyngeal nerve"),
        ("genioglossus", "hypoglossal nerve"),
    ),
)

HORMONES: Final = Group(
    "Where is {} chiefly made in an adult who is not pregnant?",
    "Which of these is chiefly made in the {}?",
    (
        ("insulin", "beta cells of the pancreas"),
        ("glucagon", "alpha cells of the pancreas"),
        ("cortisol", "zona fasciculata of the adrenal cortex"),
        ("aldosterone", "zona glomerulosa of the adrenal cortex"),
        ("adrenaline", "adrenal medulla"),
        ("thyroxine", "follicular cells of the thyroid"),
        ("calcitonin", "parafollicular cells of the thyroid"),
        ("parathyroid hormone", "chief cells of the parathyroid glands"),
        ("prolactin", "anterior pituitary"),
        ("antidiuretic hormone", "hypothalamus"),
        ("erythropoietin", "interstitial cells of the kidney"),
        ("renin", "juxtaglomerular cells of the kidney"),
        ("melatonin", "pineal gland"),
        ("testosterone", "Leydig cells of the testis"),
        ("gastrin", "G cells of the stomach"),
        ("angiotensinogen", "liver"),
        ("leptin", "adipose tissue"),
    ),
)

CELLS: Final = Group(
    "Which cells {}?",
    "What do {} do?",
    (
        ("secrete hydrochloric acid in the stomach", "gastric parietal cells"),
        ("secrete pepsinogen in the stomach", "gastric chief cells"),
        ("make pulmonary surfactant", "type II alveolar cells"),
        ("myelinate axons of the central nervous system", "oligodendrocytes"),
        ("myelinate axons of peripheral nerves", "Schwann cells"),
        ("secrete antibodies", "plasma cells"),
        ("shed platelets", "megakaryocytes"),
        ("resorb bone", "osteoclasts"),
        ("form new bone", "osteoblasts"),
        ("secrete mucus into the gut", "goblet cells"),
        ("carry oxygen in the blood", "erythrocytes"),
        ("respond to light at night", "retinal rods"),
        ("support spermatogenesis in the seminiferous tubules", "Sertoli cells"),
        ("sense sound", "hair cells of the organ of Corti"),
        ("make melanin in the skin", "melanocytes"),
    ),
)

VITAMINS: Final = Group(
    "Lack of which vitamin causes {}?",
    "What does a lack of {} cause?",
    (
        ("scurvy", "vitamin C"),
        ("rickets", "vitamin D"),
        ("beriberi", "vitamin B1 (thiamine)"),
        ("pellagra", "vitamin B3 (niacin)"),
        ("night blindness and xerophthalmia", "vitamin A"),
        ("bleeding for want of clotting factors II, VII, IX and X", "vitamin K"),
        ("subacute combined degeneration of the spinal cord", "vitamin B12 (cobalamin)"),
        ("neural tube defects of the embryo", "vitamin B9 (folate)"),
    ),
)

HEART: Final = Group(
    "Which part of the heart or of its great vessels {}?",
    "What is true of the {}?",
    (
        ("lies between the left atrium and the left ventricle", "mitral valve"),
        ("lies between the right atrium and the right ventricle", "tricuspid valve"),
        ("lies between the left ventricle and the aorta", "aortic valve"),
        ("lies between the right ventricle and the pulmonary trunk", "pulmonary valve"),
        ("sets the rhythm of a healthy heart", "sinoatrial node"),
        ("delays the impulse between atria and ventricles", "atrioventricular node"),
        ("brings blood from the arms and the head to the right atrium", "superior vena cava"),
        ("brings blood from the legs and the abdomen to the right atrium", "inferior vena cava"),
        ("brings oxygenated blood to the left atrium", "right superior pulmonary vein"),
        ("drains most veins of the heart's own muscle", "coronary sinus"),
    ),
)

GROUPS: Final = (CRANIAL_NERVES, MUSCLES, HORMONES, CELLS, VITAMINS, HEART)


@dataclass(frozen=True, slots=True)
class Range:
    """A quantity with values well within and far outside what is usual in healthy adults at rest.

    All as integers, to be divided by ten to the power of `decimals`. Between the two lie values
    about which laboratories may disagree: none of them is asked.
    """

    name: str
    decimals: int
    within: tuple[int, int]
    below: tuple[int, int]
    above: tuple[int, int]


RANGES: Final = (
    Range("serum sodium, in mmol/L", 0, (138, 142), (112, 124), (156, 172)),
    Range("serum potassium, in mmol/L", 1, (39, 46), (18, 27), (62, 78)),
    Range("total serum calcium, in mmol/L", 2, (230, 245), (130, 180), (310, 390)),
    Range("serum magnesium, in mmol/L", 2, (80, 95), (20, 50), (160, 250)),
    Range("arterial pH", 2, (738, 742), (702, 722), (756, 772)),
    Range("arterial carbon dioxide pressure, in mmHg", 0, (38, 42), (15, 26), (58, 80)),
    Range("arterial bicarbonate, in mmol/L", 0, (23, 25), (6, 15), (36, 46)),
    Range("fasting plasma glucose, in mmol/L", 1, (44, 52), (15, 26), (90, 240)),
    Range("platelets, in billions per litre", 0, (200, 350), (10, 70), (700, 1400)),
    Range("white blood cells, in billions per litre", 1, (50, 90), (5, 20), (200, 600)),
    Range("serum albumin, in g/L", 0, (39, 46), (12, 24), (65, 80)),
    Range("haemoglobin of a man, in g/L", 0, (145, 160), (55, 95), (205, 235)),
    Range("core temperature, in degrees Celsius", 1, (365, 371), (310, 345), (390, 412)),
    Range("heart rate, per minute", 0, (64, 84), (22, 38), (135, 190)),
    Range("breaths per minute", 0, (13, 17), (3, 7), (30, 48)),
    Range("systolic blood pressure, in mmHg", 0, (108, 118), (50, 78), (170, 220)),
)

GLASGOW: Final = (
    (
        "eye opening",
        (
            "does not open the eyes",
            "opens the eyes to pain only",
            "opens the eyes when spoken to",
            "opens the eyes spontaneously",
        ),
    ),
    (
        "verbal response",
        (
            "makes no sound",
            "makes incomprehensible sounds",
            "utters inappropriate words",
            "speaks, but is confused",
            "is oriented in conversation",
        ),
    ),
    (
        "motor response",
        (
            "does not move",
            "extends the limbs to pain",
            "flexes abnormally to pain (decorticate)",
            "withdraws from pain",
            "localises pain",
            "obeys commands",
        ),
    ),
)
"""Glasgow Coma Scale (Teasdale and Jennett, 1974, with six motor grades). Grades count from 1."""

APGAR: Final = (
    ("appearance", ("blue all over", "pink with blue hands and feet", "pink all over")),
    ("pulse", ("no heartbeat", "a heart rate of 80", "a heart rate of 130")),
    (
        "grimace",
        ("no response to touch", "a grimace when touched", "a cry when touched"),
    ),
    ("activity", ("limp limbs", "some flexion of the limbs", "active movement")),
    ("respiration", ("no breathing", "slow, irregular breathing", "a strong cry")),
)
"""Apgar score (Apgar, 1953). Each sign counts 0, 1 or 2."""

CHADS: Final = (
    ("heart failure", 1),
    ("hypertension", 1),
    ("diabetes", 1),
    ("an earlier stroke", 2),
    ("an earlier myocardial infarction", 1),
)
"""CHA2DS2-VASc (Lip, 2010) without age (65 to 74: 1, from 75: 2) and female sex (1)."""
