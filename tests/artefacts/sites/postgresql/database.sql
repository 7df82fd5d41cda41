--
-- PostgreSQL database dump
--


-- Dumped from database version 15.18 (Debian 15.18-0+deb12u1)
-- Dumped by pg_dump version 15.18 (Debian 15.18-0+deb12u1)

SET statement_timeout = 0;
SET lock_timeout = 0;
SET idle_in_transaction_session_timeout = 0;
SET client_encoding = 'UTF8';
SET standard_conforming_strings = on;
SELECT pg_catalog.set_config('search_path', '', false);
SET check_function_bodies = false;
SET xmloption = content;
SET client_min_messages = warning;
SET row_security = off;

SET default_tablespace = '';

SET default_table_access_method = heap;

--
-- Name: alembic_version; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.alembic_version (
    version_num character varying(32) NOT NULL
);


--
-- Name: attempts; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.attempts (
    id bigint NOT NULL,
    kind character varying(40) NOT NULL,
    subject character varying(254) NOT NULL,
    at timestamp with time zone NOT NULL
);


--
-- Name: attempts_id_seq; Type: SEQUENCE; Schema: public; Owner: -
--

CREATE SEQUENCE public.attempts_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;


--
-- Name: attempts_id_seq; Type: SEQUENCE OWNED BY; Schema: public; Owner: -
--

ALTER SEQUENCE public.attempts_id_seq OWNED BY public.attempts.id;


--
-- Name: audit; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.audit (
    id bigint NOT NULL,
    at timestamp with time zone NOT NULL,
    actor character varying(254) NOT NULL,
    action character varying(60) NOT NULL,
    subject character varying(500) NOT NULL,
    detail json NOT NULL,
    previous character varying(64) NOT NULL,
    hash character varying(64) NOT NULL
);


--
-- Name: audit_head; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.audit_head (
    id integer NOT NULL,
    rows bigint NOT NULL,
    hash character varying(64) NOT NULL
);


--
-- Name: cases; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.cases (
    id character varying(32) NOT NULL,
    number character varying(20) NOT NULL,
    accession character varying(100) NOT NULL,
    notes text NOT NULL,
    owner_id character varying(32) NOT NULL,
    created_at timestamp with time zone NOT NULL,
    state character varying(10) NOT NULL,
    second_reader_id character varying(32),
    blinded boolean NOT NULL,
    CONSTRAINT ck_cases_state CHECK (((state)::text = ANY ((ARRAY['open'::character varying, 'signed'::character varying])::text[])))
);


--
-- Name: codes; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.codes (
    id character varying(32) NOT NULL,
    purpose character varying(20) NOT NULL,
    email character varying(254) NOT NULL,
    role character varying(20) NOT NULL,
    issued_by character varying(254) NOT NULL,
    user_id character varying(32),
    sha256 character varying(64) NOT NULL,
    created_at timestamp with time zone NOT NULL,
    expires_at timestamp with time zone NOT NULL,
    attempts integer NOT NULL,
    used_at timestamp with time zone
);


--
-- Name: images; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.images (
    id character varying(32) NOT NULL,
    case_id character varying(32) NOT NULL,
    "position" integer NOT NULL,
    name character varying(200) NOT NULL,
    place character varying(200) NOT NULL,
    sha256 character varying(64) NOT NULL,
    media_type character varying(40) NOT NULL,
    width integer NOT NULL,
    height integer NOT NULL,
    size bigint NOT NULL,
    state character varying(10) NOT NULL,
    reason text NOT NULL,
    created_at timestamp with time zone NOT NULL,
    CONSTRAINT ck_images_state CHECK (((state)::text = ANY ((ARRAY['waiting'::character varying, 'done'::character varying, 'failed'::character varying])::text[])))
);


--
-- Name: predictions; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.predictions (
    id bigint NOT NULL,
    image_id character varying(32) NOT NULL,
    model_sha256 character varying(64) NOT NULL,
    model_name character varying(100) NOT NULL,
    label character varying(100) NOT NULL,
    bethesda character varying(20) NOT NULL,
    p_abnormal double precision,
    operating_point double precision,
    uncertain boolean NOT NULL,
    quality character varying(100) NOT NULL,
    probabilities json,
    votes json,
    disagreement double precision,
    limits json,
    morphology json,
    created_at timestamp with time zone NOT NULL
);


--
-- Name: predictions_id_seq; Type: SEQUENCE; Schema: public; Owner: -
--

CREATE SEQUENCE public.predictions_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;


--
-- Name: predictions_id_seq; Type: SEQUENCE OWNED BY; Schema: public; Owner: -
--

ALTER SEQUENCE public.predictions_id_seq OWNED BY public.predictions.id;


--
-- Name: reports; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.reports (
    id character varying(32) NOT NULL,
    case_id character varying(32) NOT NULL,
    version integer NOT NULL,
    model_sha256 character varying(64) NOT NULL,
    operating_point double precision,
    body json NOT NULL,
    sha256 character varying(64) NOT NULL,
    signed_by character varying(32) NOT NULL,
    signed_at timestamp with time zone NOT NULL,
    reason text NOT NULL
);


--
-- Name: reviews; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.reviews (
    id bigint NOT NULL,
    image_id character varying(32) NOT NULL,
    reader_id character varying(32) NOT NULL,
    reading character varying(10) NOT NULL,
    verdict character varying(100) NOT NULL,
    agrees boolean,
    prediction_id bigint,
    comment text NOT NULL,
    created_at timestamp with time zone NOT NULL,
    CONSTRAINT ck_reviews_reading CHECK (((reading)::text = ANY ((ARRAY['first'::character varying, 'second'::character varying, 'settled'::character varying])::text[])))
);


--
-- Name: reviews_id_seq; Type: SEQUENCE; Schema: public; Owner: -
--

CREATE SEQUENCE public.reviews_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;


--
-- Name: reviews_id_seq; Type: SEQUENCE OWNED BY; Schema: public; Owner: -
--

ALTER SEQUENCE public.reviews_id_seq OWNED BY public.reviews.id;


--
-- Name: sessions; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.sessions (
    id character varying(64) NOT NULL,
    user_id character varying(32) NOT NULL,
    csrf character varying(64) NOT NULL,
    created_at timestamp with time zone NOT NULL,
    seen_at timestamp with time zone NOT NULL,
    expires_at timestamp with time zone NOT NULL
);


--
-- Name: tokens; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.tokens (
    id character varying(32) NOT NULL,
    user_id character varying(32) NOT NULL,
    name character varying(100) NOT NULL,
    sha256 character varying(64) NOT NULL,
    created_at timestamp with time zone NOT NULL,
    used_at timestamp with time zone,
    expires_at timestamp with time zone,
    revoked_at timestamp with time zone
);


--
-- Name: uploads; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.uploads (
    id bigint NOT NULL,
    case_id character varying(32) NOT NULL,
    user_id character varying(32) NOT NULL,
    key character varying(100) NOT NULL,
    receipt json NOT NULL,
    created_at timestamp with time zone NOT NULL
);


--
-- Name: uploads_id_seq; Type: SEQUENCE; Schema: public; Owner: -
--

CREATE SEQUENCE public.uploads_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;


--
-- Name: uploads_id_seq; Type: SEQUENCE OWNED BY; Schema: public; Owner: -
--

ALTER SEQUENCE public.uploads_id_seq OWNED BY public.uploads.id;


--
-- Name: users; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.users (
    id character varying(32) NOT NULL,
    email character varying(254) NOT NULL,
    name character varying(100) NOT NULL,
    role character varying(20) NOT NULL,
    password_hash text NOT NULL,
    totp_secret character varying(64) NOT NULL,
    totp_pending character varying(64) NOT NULL,
    totp_step bigint,
    active boolean NOT NULL,
    created_at timestamp with time zone NOT NULL,
    last_sign_in_at timestamp with time zone,
    CONSTRAINT ck_users_role CHECK (((role)::text = ANY ((ARRAY['reader'::character varying, 'reviewer'::character varying, 'administrator'::character varying])::text[])))
);


--
-- Name: attempts id; Type: DEFAULT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.attempts ALTER COLUMN id SET DEFAULT nextval('public.attempts_id_seq'::regclass);


--
-- Name: predictions id; Type: DEFAULT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.predictions ALTER COLUMN id SET DEFAULT nextval('public.predictions_id_seq'::regclass);


--
-- Name: reviews id; Type: DEFAULT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.reviews ALTER COLUMN id SET DEFAULT nextval('public.reviews_id_seq'::regclass);


--
-- Name: uploads id; Type: DEFAULT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.uploads ALTER COLUMN id SET DEFAULT nextval('public.uploads_id_seq'::regclass);


--
-- Data for Name: alembic_version; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.alembic_version VALUES ('0001');


--
-- Data for Name: attempts; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.attempts VALUES (2, 'upload by user', 'f1c2e34a0e524184a4852226aff92563', '2026-03-01 13:31:00+00');


--
-- Data for Name: audit; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.audit VALUES (1, '2026-03-01 12:00:00+00', 'owner@lab.example', 'token.made', 'owner@lab.example', '{"name": "a program", "days": 90}', '0000000000000000000000000000000000000000000000000000000000000000', '4e6070a18ac85c10a9b363c33c2ebca8cef8f5b80c6b6056f86fe3bf22cf1264');
INSERT INTO public.audit VALUES (2, '2026-03-01 12:00:00+00', 'administrator@lab.example', 'retention.set', '', '{"days": 400, "before": 0}', '4e6070a18ac85c10a9b363c33c2ebca8cef8f5b80c6b6056f86fe3bf22cf1264', '9eda0361d325082fea886d891e62c6338b9f7e05c8d8f7a14a6436d0783317ce');
INSERT INTO public.audit VALUES (3, '2026-03-01 12:07:00+00', 'owner@lab.example', 'case.opened', 'EHT28Y', '{}', '9eda0361d325082fea886d891e62c6338b9f7e05c8d8f7a14a6436d0783317ce', '34eed37bf177d3de849202126e63d068660b8db2b824e8f90d3be3329b1c1e8e');
INSERT INTO public.audit VALUES (4, '2026-03-01 12:07:00+00', 'owner@lab.example', 'review.decided', 'EHT28Y', '{"review": 1, "image": "909e58a5604a40e98e317f8dad6a6cf0", "sha256": "237db06a790efaafe9d3a2985c8764536cb1ec3588ebee3bb34d3119cd2adb3c", "reading": "first", "verdict": "HSIL", "agrees": true}', '34eed37bf177d3de849202126e63d068660b8db2b824e8f90d3be3329b1c1e8e', '7d881ffde30446b8aef90e851524de50431fa573a93d8a58d77ce9fa7da90845');
INSERT INTO public.audit VALUES (5, '2026-03-01 12:14:00+00', 'owner@lab.example', 'review.decided', 'EHT28Y', '{"review": 2, "image": "80cd7fa68ed9453a8e6b7e8a279043ef", "sha256": "97c9f98a48f3494ab631214075181a883232a278404ee7f7ebfd5ebf1254c975", "reading": "first", "verdict": "LSIL", "agrees": true}', '7d881ffde30446b8aef90e851524de50431fa573a93d8a58d77ce9fa7da90845', '47ba5f4a8e956645e66ef22c948fbd23e6758dec5449b29a216d0497353ef0fe');
INSERT INTO public.audit VALUES (6, '2026-03-01 12:21:00+00', 'owner@lab.example', 'review.decided', 'EHT28Y', '{"review": 3, "image": "ef1d54266ab8465dbc4f40642ca79f32", "sha256": "a548b305fb236fe9c09248d263b76aca65fb96ed98a902c13fabbffdacb056d4", "reading": "first", "verdict": "NILM", "agrees": true}', '47ba5f4a8e956645e66ef22c948fbd23e6758dec5449b29a216d0497353ef0fe', '3442abbe5c710d8f291a592a4699559800168187ee24fbc719c3e3af48a7f1e8');
INSERT INTO public.audit VALUES (7, '2026-03-01 12:28:00+00', 'reviewer@lab.example', 'report.signed', 'EHT28Y', '{"report": "cd9bb5f8a159448f9e1bd0e796048ff3", "version": 1, "sha256": "056aa3df0798e67ab9927e34c5fc6e42607e691430e71c4551c73c52670274fd", "model": "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"}', '3442abbe5c710d8f291a592a4699559800168187ee24fbc719c3e3af48a7f1e8', '9bacb08b3cb6c2bd7c6b68c1d9c6115aa6e1e311bc1722786599f7e067e5432b');
INSERT INTO public.audit VALUES (8, '2026-03-01 12:35:00+00', 'reviewer@lab.example', 'case.reopened', 'EHT28Y', '{"reason": "a second look"}', '9bacb08b3cb6c2bd7c6b68c1d9c6115aa6e1e311bc1722786599f7e067e5432b', 'cb3b1cb472e0034700303b23e223acf6f784f6b1e2e1adbb76342c33d71ad951');
INSERT INTO public.audit VALUES (9, '2026-03-01 12:35:00+00', 'owner@lab.example', 'review.decided', 'EHT28Y', '{"review": 4, "image": "909e58a5604a40e98e317f8dad6a6cf0", "sha256": "237db06a790efaafe9d3a2985c8764536cb1ec3588ebee3bb34d3119cd2adb3c", "reading": "first", "verdict": "SCC", "agrees": false}', 'cb3b1cb472e0034700303b23e223acf6f784f6b1e2e1adbb76342c33d71ad951', '7d181691e829754aec32325b4c2d1bcab2ddf0cf9eba9407d886647f7562f7f9');
INSERT INTO public.audit VALUES (10, '2026-03-01 12:42:00+00', 'reviewer@lab.example', 'report.signed', 'EHT28Y', '{"report": "31b9b4d697664583a52c86e72c8e7f0c", "version": 2, "sha256": "c0e4796714e97ce64021752293f4fbe0bc5e36d9c9bec53f9bcc22e8e92c2dcc", "model": "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"}', '7d181691e829754aec32325b4c2d1bcab2ddf0cf9eba9407d886647f7562f7f9', '850b56106a6a6b16cdb07f65534d6cbb1e2149e831d8be3a98eaf4972c163c08');
INSERT INTO public.audit VALUES (11, '2026-03-01 12:42:00+00', 'owner@lab.example', 'case.opened', 'BH405C', '{}', '850b56106a6a6b16cdb07f65534d6cbb1e2149e831d8be3a98eaf4972c163c08', 'aa216e898899755ffe22a6779d70761943223e2194f91305e5c6dc75eadb9c2c');
INSERT INTO public.audit VALUES (12, '2026-03-01 12:42:00+00', 'owner@lab.example', 'case.assigned', 'BH405C', '{"second_reader": "second@lab.example", "blinded": true}', 'aa216e898899755ffe22a6779d70761943223e2194f91305e5c6dc75eadb9c2c', 'b134e5df02eaa96acb27afd4e55f8f3c3f57acb05882d22f66fc8b26dc30bad2');
INSERT INTO public.audit VALUES (13, '2026-03-01 12:42:00+00', 'owner@lab.example', 'review.decided', 'BH405C', '{"review": 5, "image": "78bd80e95c72463cad25b0b29083f3ff", "sha256": "237db06a790efaafe9d3a2985c8764536cb1ec3588ebee3bb34d3119cd2adb3c", "reading": "first", "verdict": "HSIL", "agrees": true}', 'b134e5df02eaa96acb27afd4e55f8f3c3f57acb05882d22f66fc8b26dc30bad2', '886a003f23b8d26a46242f1a439d873cf7a51ff9cbf898a8007eb27889436f07');
INSERT INTO public.audit VALUES (14, '2026-03-01 12:49:00+00', 'owner@lab.example', 'review.decided', 'BH405C', '{"review": 6, "image": "e7deb686cd294051a00645d2c3f665b1", "sha256": "97c9f98a48f3494ab631214075181a883232a278404ee7f7ebfd5ebf1254c975", "reading": "first", "verdict": "NILM", "agrees": true}', '886a003f23b8d26a46242f1a439d873cf7a51ff9cbf898a8007eb27889436f07', 'acaf79f0aea66ddbb308e66ffb13929a00fdd8625545d65c2143b1021fe44406');
INSERT INTO public.audit VALUES (15, '2026-03-01 12:56:00+00', 'second@lab.example', 'review.decided', 'BH405C', '{"review": 7, "image": "78bd80e95c72463cad25b0b29083f3ff", "sha256": "237db06a790efaafe9d3a2985c8764536cb1ec3588ebee3bb34d3119cd2adb3c", "reading": "second", "verdict": "ASC-H", "agrees": false}', 'acaf79f0aea66ddbb308e66ffb13929a00fdd8625545d65c2143b1021fe44406', 'b222aedb8397eb326cafc1a17c53ce87261ee4fb5847b9160f18aed469556ed0');
INSERT INTO public.audit VALUES (16, '2026-03-01 13:03:00+00', 'second@lab.example', 'review.decided', 'BH405C', '{"review": 8, "image": "e7deb686cd294051a00645d2c3f665b1", "sha256": "97c9f98a48f3494ab631214075181a883232a278404ee7f7ebfd5ebf1254c975", "reading": "second", "verdict": "NILM", "agrees": true}', 'b222aedb8397eb326cafc1a17c53ce87261ee4fb5847b9160f18aed469556ed0', '99a0946fb8113b73c4be90f03e2bb79187f3588b57b3d419c9cee26f0aae8f01');
INSERT INTO public.audit VALUES (17, '2026-03-01 13:03:00+00', 'second@lab.example', 'review.completed', 'BH405C', '{"review": 8}', '99a0946fb8113b73c4be90f03e2bb79187f3588b57b3d419c9cee26f0aae8f01', 'f43c13b0f14eca36113269edef76f8fe5887065d063fe18d3782a02c5a2bdb89');
INSERT INTO public.audit VALUES (18, '2026-03-01 13:10:00+00', 'owner@lab.example', 'images.uploaded', 'BH405C', '{"accepted": 1, "refused": 0}', 'f43c13b0f14eca36113269edef76f8fe5887065d063fe18d3782a02c5a2bdb89', '8521030f83ddc01eacf2fc397ecc56705acbbec318a3e0d33f3db83df56c23b8');
INSERT INTO public.audit VALUES (19, '2026-03-01 13:17:00+00', 'owner@lab.example', 'review.decided', 'BH405C', '{"review": 9, "image": "8b68ebbc661642f5afebb819dc0a7a38", "sha256": "5eb463859a25f24caa47aff288c3291dfd58d695e3cfad74c62821d52021ae53", "reading": "first", "verdict": "LSIL", "agrees": null}', '8521030f83ddc01eacf2fc397ecc56705acbbec318a3e0d33f3db83df56c23b8', '70f2a00748a10a2be84cd8087c73d36077fdd3863a5353e11b899985f2844081');
INSERT INTO public.audit VALUES (20, '2026-03-01 13:24:00+00', 'second@lab.example', 'review.decided', 'BH405C', '{"review": 10, "image": "8b68ebbc661642f5afebb819dc0a7a38", "sha256": "5eb463859a25f24caa47aff288c3291dfd58d695e3cfad74c62821d52021ae53", "reading": "second", "verdict": "LSIL", "agrees": null}', '70f2a00748a10a2be84cd8087c73d36077fdd3863a5353e11b899985f2844081', 'fc46f535626b345f7f9586e318ff4565a6b8cbf3600cbaf25f071df4d6b12e88');
INSERT INTO public.audit VALUES (21, '2026-03-01 13:24:00+00', 'second@lab.example', 'review.completed', 'BH405C', '{"review": 10}', 'fc46f535626b345f7f9586e318ff4565a6b8cbf3600cbaf25f071df4d6b12e88', '7ffb9abced42a72aec81a54e574e89863c2dbad204650a37067bfd4ffb712efa');
INSERT INTO public.audit VALUES (22, '2026-03-01 13:31:00+00', 'owner@lab.example', 'images.uploaded', 'BH405C', '{"accepted": 1, "refused": 0}', '7ffb9abced42a72aec81a54e574e89863c2dbad204650a37067bfd4ffb712efa', '56c1dd515bd561eb633ce625db3336ab85e9e16a14d9adb8346a5dd4079390a1');
INSERT INTO public.audit VALUES (23, '2026-03-01 13:38:00+00', 'owner@lab.example', 'review.decided', 'BH405C', '{"review": 11, "image": "a8e4f6725b4c41f4b19f21363492775c", "sha256": "7337aa60aa1c4f7953a8a76ee00ecc202705196b4e77a482994f0078c0e75ed4", "reading": "first", "verdict": "NILM", "agrees": null}', '56c1dd515bd561eb633ce625db3336ab85e9e16a14d9adb8346a5dd4079390a1', '28121d643a22f8c49a7f8e25a0399927269b1eb50a74abd6408c7c7cb080abda');
INSERT INTO public.audit VALUES (24, '2026-03-01 13:45:00+00', 'owner@lab.example', 'case.opened', '0J3DH7', '{}', '28121d643a22f8c49a7f8e25a0399927269b1eb50a74abd6408c7c7cb080abda', 'c0422ff0933dc99404bc8ddee5778231796b11895ab2f12282df8dfc75f05cbf');
INSERT INTO public.audit VALUES (25, '2026-03-01 13:45:00+00', 'owner@lab.example', 'case.assigned', '0J3DH7', '{"second_reader": "second@lab.example", "blinded": true}', 'c0422ff0933dc99404bc8ddee5778231796b11895ab2f12282df8dfc75f05cbf', '206f038ca2908095c8499b4b021671ec2348058c3dca2bfc00ab4f4c70fcf2a2');
INSERT INTO public.audit VALUES (26, '2026-03-01 13:45:00+00', 'owner@lab.example', 'review.decided', '0J3DH7', '{"review": 12, "image": "c311a4aff3ef4c54a506d52b42fce3ad", "sha256": "237db06a790efaafe9d3a2985c8764536cb1ec3588ebee3bb34d3119cd2adb3c", "reading": "first", "verdict": "HSIL", "agrees": true}', '206f038ca2908095c8499b4b021671ec2348058c3dca2bfc00ab4f4c70fcf2a2', 'e8fd378e08dfc53ec9b43afcd1eae1654a5dd30a3cbbf7e9d2e1850121e04a01');
INSERT INTO public.audit VALUES (27, '2026-03-01 13:52:00+00', 'owner@lab.example', 'review.decided', '0J3DH7', '{"review": 13, "image": "d8d9d6c5a2c842548dc04aeb9a14ecaa", "sha256": "97c9f98a48f3494ab631214075181a883232a278404ee7f7ebfd5ebf1254c975", "reading": "first", "verdict": "ASC-US", "agrees": false}', 'e8fd378e08dfc53ec9b43afcd1eae1654a5dd30a3cbbf7e9d2e1850121e04a01', '4df9de4b43ea955e2a68cf133bb5aacc37c4f9f25f70bc99f74f8d83294843cd');
INSERT INTO public.audit VALUES (28, '2026-03-01 13:59:00+00', 'second@lab.example', 'review.decided', '0J3DH7', '{"review": 14, "image": "c311a4aff3ef4c54a506d52b42fce3ad", "sha256": "237db06a790efaafe9d3a2985c8764536cb1ec3588ebee3bb34d3119cd2adb3c", "reading": "second", "verdict": "LSIL", "agrees": false}', '4df9de4b43ea955e2a68cf133bb5aacc37c4f9f25f70bc99f74f8d83294843cd', '96637a4e4f83bf10c6bb7f3fb30cdbe0eb356ac7e2b40d461eaa99efbff2c92b');
INSERT INTO public.audit VALUES (29, '2026-03-01 14:06:00+00', 'owner@lab.example', 'case.opened', 'K7HW16', '{}', '96637a4e4f83bf10c6bb7f3fb30cdbe0eb356ac7e2b40d461eaa99efbff2c92b', '9dc8371c788b7fffb3a084cc2cc9e37bf6c240da62360cf5940a961252686e79');
INSERT INTO public.audit VALUES (30, '2026-03-01 14:06:00+00', 'owner@lab.example', 'case.assigned', 'K7HW16', '{"second_reader": "second@lab.example", "blinded": false}', '9dc8371c788b7fffb3a084cc2cc9e37bf6c240da62360cf5940a961252686e79', 'fa6221a5e948b8b611736d2e9e6d43b6b1b0749b94465e37df819ce9bbc1b122');
INSERT INTO public.audit VALUES (31, '2026-03-01 14:06:00+00', 'owner@lab.example', 'review.decided', 'K7HW16', '{"review": 15, "image": "f5e32811f0ff47c4bbd509544f51ac4c", "sha256": "237db06a790efaafe9d3a2985c8764536cb1ec3588ebee3bb34d3119cd2adb3c", "reading": "first", "verdict": "HSIL", "agrees": false}', 'fa6221a5e948b8b611736d2e9e6d43b6b1b0749b94465e37df819ce9bbc1b122', '388df2d88bb90ff74f3e40abb048fd94d72d6409cd71ae5a5297cb63b55d6f00');
INSERT INTO public.audit VALUES (32, '2026-03-01 14:13:00+00', 'second@lab.example', 'review.decided', 'K7HW16', '{"review": 16, "image": "f5e32811f0ff47c4bbd509544f51ac4c", "sha256": "237db06a790efaafe9d3a2985c8764536cb1ec3588ebee3bb34d3119cd2adb3c", "reading": "second", "verdict": "NILM", "agrees": false}', '388df2d88bb90ff74f3e40abb048fd94d72d6409cd71ae5a5297cb63b55d6f00', '991ba8d3ffbb6919e96f0a3dfd8ed613ee6937e6eea32e20d64b5a95fa94cbac');
INSERT INTO public.audit VALUES (33, '2026-03-01 14:20:00+00', 'reviewer@lab.example', 'review.settled', 'K7HW16', '{"review": 17, "image": "f5e32811f0ff47c4bbd509544f51ac4c", "sha256": "237db06a790efaafe9d3a2985c8764536cb1ec3588ebee3bb34d3119cd2adb3c", "reading": "settled", "verdict": "LSIL", "agrees": true}', '991ba8d3ffbb6919e96f0a3dfd8ed613ee6937e6eea32e20d64b5a95fa94cbac', 'a5e9e97c96b36c1d36acced57c4184134a49b4e11c95b0d7fef7660071c6b1aa');
INSERT INTO public.audit VALUES (34, '2026-03-01 14:27:00+00', 'owner@lab.example', 'case.opened', 'QE7QJ5', '{}', 'a5e9e97c96b36c1d36acced57c4184134a49b4e11c95b0d7fef7660071c6b1aa', 'a16618feed1e5daf8b5289fc3df849bd81e29c4cc24622c011f036827eadfe71');
INSERT INTO public.audit VALUES (35, '2026-03-01 14:27:00+00', 'owner@lab.example', 'case.assigned', 'QE7QJ5', '{"second_reader": "second@lab.example", "blinded": true}', 'a16618feed1e5daf8b5289fc3df849bd81e29c4cc24622c011f036827eadfe71', '12330ac4eea7194a701cdc8dc93e66780abcbaa1df6bc358bd313b8d85fa50d9');
INSERT INTO public.audit VALUES (36, '2026-03-01 14:27:00+00', 'owner@lab.example', 'review.decided', 'QE7QJ5', '{"review": 18, "image": "1298ee26c6c94945a003a3a1cd71a8b4", "sha256": "237db06a790efaafe9d3a2985c8764536cb1ec3588ebee3bb34d3119cd2adb3c", "reading": "first", "verdict": "LSIL", "agrees": true}', '12330ac4eea7194a701cdc8dc93e66780abcbaa1df6bc358bd313b8d85fa50d9', 'ded8351d52ce24b0b9b823f4193dcd2faf6826b40877f0c2e2f8762e11cadf32');
INSERT INTO public.audit VALUES (37, '2026-03-01 14:34:00+00', 'second@lab.example', 'review.decided', 'QE7QJ5', '{"review": 19, "image": "1298ee26c6c94945a003a3a1cd71a8b4", "sha256": "237db06a790efaafe9d3a2985c8764536cb1ec3588ebee3bb34d3119cd2adb3c", "reading": "second", "verdict": "LSIL", "agrees": true}', 'ded8351d52ce24b0b9b823f4193dcd2faf6826b40877f0c2e2f8762e11cadf32', 'e5f0c4478e44ffc02f83bbcdb11c80d3e91745b3bfd18f1dfbb4f78642e40954');
INSERT INTO public.audit VALUES (38, '2026-03-01 14:34:00+00', 'second@lab.example', 'review.completed', 'QE7QJ5', '{"review": 19}', 'e5f0c4478e44ffc02f83bbcdb11c80d3e91745b3bfd18f1dfbb4f78642e40954', 'c24aaa518754922ba5c7bb3776957e9702d884679d08b8e92ac72c9c95011f87');
INSERT INTO public.audit VALUES (39, '2026-03-01 14:41:00+00', 'owner@lab.example', 'case.deleted', 'QE7QJ5', '{"images": 1, "reports": 0}', 'c24aaa518754922ba5c7bb3776957e9702d884679d08b8e92ac72c9c95011f87', '17c574d0218e671e827e5f3c85339748d3417977d2a470108be24e666d881964');
INSERT INTO public.audit VALUES (40, '2026-03-01 14:41:00+00', 'administrator@lab.example', 'retention.set', '', '{"days": 200, "before": 400}', '17c574d0218e671e827e5f3c85339748d3417977d2a470108be24e666d881964', '4b92fa5996af089372e7b416495c21dd9b62cf3b8f9f35c0227c0c93107f24ec');


--
-- Data for Name: audit_head; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.audit_head VALUES (1, 40, '4b92fa5996af089372e7b416495c21dd9b62cf3b8f9f35c0227c0c93107f24ec');


--
-- Data for Name: cases; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.cases VALUES ('cd2376f79a2b42b090d8c38cf7b596a0', 'EHT28Y', 'A 12', 'from the left', 'f1c2e34a0e524184a4852226aff92563', '2026-03-01 12:07:00+00', 'signed', NULL, true);
INSERT INTO public.cases VALUES ('1a9d7dadc36c4f1194963c9fc8f8fb0b', 'BH405C', 'A 12', 'from the left', 'f1c2e34a0e524184a4852226aff92563', '2026-03-01 12:42:00+00', 'open', 'e5d7c1fc802d4e77a09edac3d9832a7a', true);
INSERT INTO public.cases VALUES ('3c697b5ecb574366b60966ccc4c3c612', '0J3DH7', 'A 12', 'from the left', 'f1c2e34a0e524184a4852226aff92563', '2026-03-01 13:45:00+00', 'open', 'e5d7c1fc802d4e77a09edac3d9832a7a', true);
INSERT INTO public.cases VALUES ('765bce55916b4a2eb5358add99507f56', 'K7HW16', 'A 12', 'from the left', 'f1c2e34a0e524184a4852226aff92563', '2026-03-01 14:06:00+00', 'open', 'e5d7c1fc802d4e77a09edac3d9832a7a', false);


--
-- Data for Name: codes; Type: TABLE DATA; Schema: public; Owner: -
--



--
-- Data for Name: images; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.images VALUES ('909e58a5604a40e98e317f8dad6a6cf0', 'cd2376f79a2b42b090d8c38cf7b596a0', 1, 'signed-1.png', '', '237db06a790efaafe9d3a2985c8764536cb1ec3588ebee3bb34d3119cd2adb3c', 'image/png', 20, 24, 1532, 'done', '', '2026-03-01 12:07:00+00');
INSERT INTO public.images VALUES ('80cd7fa68ed9453a8e6b7e8a279043ef', 'cd2376f79a2b42b090d8c38cf7b596a0', 2, 'signed-2.png', '', '97c9f98a48f3494ab631214075181a883232a278404ee7f7ebfd5ebf1254c975', 'image/png', 20, 24, 1532, 'done', '', '2026-03-01 12:07:00+00');
INSERT INTO public.images VALUES ('ef1d54266ab8465dbc4f40642ca79f32', 'cd2376f79a2b42b090d8c38cf7b596a0', 3, 'signed-3.png', '', 'a548b305fb236fe9c09248d263b76aca65fb96ed98a902c13fabbffdacb056d4', 'image/png', 20, 24, 1532, 'done', '', '2026-03-01 12:07:00+00');
INSERT INTO public.images VALUES ('78bd80e95c72463cad25b0b29083f3ff', '1a9d7dadc36c4f1194963c9fc8f8fb0b', 1, 'twice-1.png', '', '237db06a790efaafe9d3a2985c8764536cb1ec3588ebee3bb34d3119cd2adb3c', 'image/png', 20, 24, 1532, 'done', '', '2026-03-01 12:42:00+00');
INSERT INTO public.images VALUES ('e7deb686cd294051a00645d2c3f665b1', '1a9d7dadc36c4f1194963c9fc8f8fb0b', 2, 'twice-2.png', '', '97c9f98a48f3494ab631214075181a883232a278404ee7f7ebfd5ebf1254c975', 'image/png', 20, 24, 1532, 'done', '', '2026-03-01 12:42:00+00');
INSERT INTO public.images VALUES ('8b68ebbc661642f5afebb819dc0a7a38', '1a9d7dadc36c4f1194963c9fc8f8fb0b', 3, 'later-90.png', '', '5eb463859a25f24caa47aff288c3291dfd58d695e3cfad74c62821d52021ae53', 'image/png', 20, 24, 1532, 'waiting', '', '2026-03-01 13:10:00+00');
INSERT INTO public.images VALUES ('a8e4f6725b4c41f4b19f21363492775c', '1a9d7dadc36c4f1194963c9fc8f8fb0b', 4, 'later-91.png', '', '7337aa60aa1c4f7953a8a76ee00ecc202705196b4e77a482994f0078c0e75ed4', 'image/png', 20, 24, 1532, 'waiting', '', '2026-03-01 13:31:00+00');
INSERT INTO public.images VALUES ('c311a4aff3ef4c54a506d52b42fce3ad', '3c697b5ecb574366b60966ccc4c3c612', 1, 'open-1.png', '', '237db06a790efaafe9d3a2985c8764536cb1ec3588ebee3bb34d3119cd2adb3c', 'image/png', 20, 24, 1532, 'done', '', '2026-03-01 13:45:00+00');
INSERT INTO public.images VALUES ('d8d9d6c5a2c842548dc04aeb9a14ecaa', '3c697b5ecb574366b60966ccc4c3c612', 2, 'open-2.png', '', '97c9f98a48f3494ab631214075181a883232a278404ee7f7ebfd5ebf1254c975', 'image/png', 20, 24, 1532, 'done', '', '2026-03-01 13:45:00+00');
INSERT INTO public.images VALUES ('f5e32811f0ff47c4bbd509544f51ac4c', '765bce55916b4a2eb5358add99507f56', 1, 'settled-1.png', '', '237db06a790efaafe9d3a2985c8764536cb1ec3588ebee3bb34d3119cd2adb3c', 'image/png', 20, 24, 1532, 'done', '', '2026-03-01 14:06:00+00');


--
-- Data for Name: predictions; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.predictions VALUES (1, '909e58a5604a40e98e317f8dad6a6cf0', 'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa', 'a network', 'severe_dysplastic', 'HSIL', 0.9, 0.3, false, 'good', '{"normal_superficiel": 0.3333333333333333, "light_dysplastic": 0.3333333333333333, "severe_dysplastic": 0.3333333333333333}', NULL, NULL, NULL, NULL, '2026-03-01 12:07:00+00');
INSERT INTO public.predictions VALUES (2, '80cd7fa68ed9453a8e6b7e8a279043ef', 'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa', 'a network', 'light_dysplastic', 'LSIL', 0.5, 0.3, false, 'good', '{"normal_superficiel": 0.3333333333333333, "light_dysplastic": 0.3333333333333333, "severe_dysplastic": 0.3333333333333333}', NULL, NULL, NULL, NULL, '2026-03-01 12:07:00+00');
INSERT INTO public.predictions VALUES (3, 'ef1d54266ab8465dbc4f40642ca79f32', 'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa', 'a network', 'normal_superficiel', 'NILM', 0.1, 0.3, false, 'good', '{"normal_superficiel": 0.3333333333333333, "light_dysplastic": 0.3333333333333333, "severe_dysplastic": 0.3333333333333333}', NULL, NULL, NULL, NULL, '2026-03-01 12:07:00+00');
INSERT INTO public.predictions VALUES (4, '78bd80e95c72463cad25b0b29083f3ff', 'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa', 'a network', 'severe_dysplastic', 'HSIL', 0.8, 0.3, false, 'good', '{"normal_superficiel": 0.3333333333333333, "light_dysplastic": 0.3333333333333333, "severe_dysplastic": 0.3333333333333333}', NULL, NULL, NULL, NULL, '2026-03-01 12:42:00+00');
INSERT INTO public.predictions VALUES (5, 'e7deb686cd294051a00645d2c3f665b1', 'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa', 'a network', 'normal_superficiel', 'NILM', 0.2, 0.3, false, 'good', '{"normal_superficiel": 0.3333333333333333, "light_dysplastic": 0.3333333333333333, "severe_dysplastic": 0.3333333333333333}', NULL, NULL, NULL, NULL, '2026-03-01 12:42:00+00');
INSERT INTO public.predictions VALUES (6, 'c311a4aff3ef4c54a506d52b42fce3ad', 'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa', 'a network', 'severe_dysplastic', 'HSIL', 0.7, 0.3, false, 'good', '{"normal_superficiel": 0.3333333333333333, "light_dysplastic": 0.3333333333333333, "severe_dysplastic": 0.3333333333333333}', NULL, NULL, NULL, NULL, '2026-03-01 13:45:00+00');
INSERT INTO public.predictions VALUES (7, 'd8d9d6c5a2c842548dc04aeb9a14ecaa', 'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa', 'a network', 'light_dysplastic', 'LSIL', 0.3, 0.3, false, 'good', '{"normal_superficiel": 0.3333333333333333, "light_dysplastic": 0.3333333333333333, "severe_dysplastic": 0.3333333333333333}', NULL, NULL, NULL, NULL, '2026-03-01 13:45:00+00');
INSERT INTO public.predictions VALUES (8, 'f5e32811f0ff47c4bbd509544f51ac4c', 'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa', 'a network', 'light_dysplastic', 'LSIL', 0.6, 0.3, false, 'good', '{"normal_superficiel": 0.3333333333333333, "light_dysplastic": 0.3333333333333333, "severe_dysplastic": 0.3333333333333333}', NULL, NULL, NULL, NULL, '2026-03-01 14:06:00+00');


--
-- Data for Name: reports; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.reports VALUES ('cd9bb5f8a159448f9e1bd0e796048ff3', 'cd2376f79a2b42b090d8c38cf7b596a0', 1, 'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa', 0.3, '{"format": 1, "software": "cervicyte 0.1.0", "case": {"number": "EHT28Y", "accession": "A 12", "notes": "from the left", "owner": "owner", "second_reader": null, "blinded": true, "created_at": "2026-03-01T12:07:00+00:00", "images": 3, "failed": 0, "waiting": 0}, "models": [{"name": "a network", "sha256": "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "operating_point": 0.3, "sensitivity": null, "cells": 3}], "summary": [["HSIL", 1], ["LSIL", 1], ["NILM", 1]], "not_read": 0, "disputed": 0, "cells": [{"image": "909e58a5604a40e98e317f8dad6a6cf0", "sha256": "237db06a790efaafe9d3a2985c8764536cb1ec3588ebee3bb34d3119cd2adb3c", "name": "signed-1.png", "position": 1, "width": 20, "height": 24, "state": "done", "reason": "", "model_sha256": "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "label": "severe_dysplastic", "bethesda": "HSIL", "p_abnormal": 0.9, "operating_point": 0.3, "flagged": true, "uncertain": false, "quality": "good", "verdict": "HSIL", "stored": "HSIL", "agrees": true, "reading": "first", "reader": "owner", "comment": "HSIL, by owner@lab.example", "decided_at": "2026-03-01T12:07:00+00:00", "disputed": false, "first": {"reader": "owner", "verdict": "HSIL", "comment": "HSIL, by owner@lab.example", "at": "2026-03-01T12:07:00+00:00"}, "second": null}, {"image": "80cd7fa68ed9453a8e6b7e8a279043ef", "sha256": "97c9f98a48f3494ab631214075181a883232a278404ee7f7ebfd5ebf1254c975", "name": "signed-2.png", "position": 2, "width": 20, "height": 24, "state": "done", "reason": "", "model_sha256": "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "label": "light_dysplastic", "bethesda": "LSIL", "p_abnormal": 0.5, "operating_point": 0.3, "flagged": true, "uncertain": false, "quality": "good", "verdict": "LSIL", "stored": "LSIL", "agrees": true, "reading": "first", "reader": "owner", "comment": "LSIL, by owner@lab.example", "decided_at": "2026-03-01T12:14:00+00:00", "disputed": false, "first": {"reader": "owner", "verdict": "LSIL", "comment": "LSIL, by owner@lab.example", "at": "2026-03-01T12:14:00+00:00"}, "second": null}, {"image": "ef1d54266ab8465dbc4f40642ca79f32", "sha256": "a548b305fb236fe9c09248d263b76aca65fb96ed98a902c13fabbffdacb056d4", "name": "signed-3.png", "position": 3, "width": 20, "height": 24, "state": "done", "reason": "", "model_sha256": "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "label": "normal_superficiel", "bethesda": "NILM", "p_abnormal": 0.1, "operating_point": 0.3, "flagged": false, "uncertain": false, "quality": "good", "verdict": "NILM", "stored": "NILM", "agrees": true, "reading": "first", "reader": "owner", "comment": "NILM, by owner@lab.example", "decided_at": "2026-03-01T12:21:00+00:00", "disputed": false, "first": {"reader": "owner", "verdict": "NILM", "comment": "NILM, by owner@lab.example", "at": "2026-03-01T12:21:00+00:00"}, "second": null}], "version": 1, "made_at": "2026-03-01T12:28:00+00:00", "signed_at": "2026-03-01T12:28:00+00:00", "signed_by": {"name": "reviewer", "email": "reviewer@lab.example", "role": "reviewer"}, "conclusion": "High grade.", "reason": ""}', '056aa3df0798e67ab9927e34c5fc6e42607e691430e71c4551c73c52670274fd', '87b42f16430c4ce896ab853639f59586', '2026-03-01 12:28:00+00', '');
INSERT INTO public.reports VALUES ('31b9b4d697664583a52c86e72c8e7f0c', 'cd2376f79a2b42b090d8c38cf7b596a0', 2, 'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa', 0.3, '{"format": 1, "software": "cervicyte 0.1.0", "case": {"number": "EHT28Y", "accession": "A 12", "notes": "from the left", "owner": "owner", "second_reader": null, "blinded": true, "created_at": "2026-03-01T12:07:00+00:00", "images": 3, "failed": 0, "waiting": 0}, "models": [{"name": "a network", "sha256": "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "operating_point": 0.3, "sensitivity": null, "cells": 3}], "summary": [["SCC", 1], ["LSIL", 1], ["NILM", 1]], "not_read": 0, "disputed": 0, "cells": [{"image": "909e58a5604a40e98e317f8dad6a6cf0", "sha256": "237db06a790efaafe9d3a2985c8764536cb1ec3588ebee3bb34d3119cd2adb3c", "name": "signed-1.png", "position": 1, "width": 20, "height": 24, "state": "done", "reason": "", "model_sha256": "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "label": "severe_dysplastic", "bethesda": "HSIL", "p_abnormal": 0.9, "operating_point": 0.3, "flagged": true, "uncertain": false, "quality": "good", "verdict": "SCC", "stored": "SCC", "agrees": false, "reading": "first", "reader": "owner", "comment": "SCC, by owner@lab.example", "decided_at": "2026-03-01T12:35:00+00:00", "disputed": false, "first": {"reader": "owner", "verdict": "SCC", "comment": "SCC, by owner@lab.example", "at": "2026-03-01T12:35:00+00:00"}, "second": null}, {"image": "80cd7fa68ed9453a8e6b7e8a279043ef", "sha256": "97c9f98a48f3494ab631214075181a883232a278404ee7f7ebfd5ebf1254c975", "name": "signed-2.png", "position": 2, "width": 20, "height": 24, "state": "done", "reason": "", "model_sha256": "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "label": "light_dysplastic", "bethesda": "LSIL", "p_abnormal": 0.5, "operating_point": 0.3, "flagged": true, "uncertain": false, "quality": "good", "verdict": "LSIL", "stored": "LSIL", "agrees": true, "reading": "first", "reader": "owner", "comment": "LSIL, by owner@lab.example", "decided_at": "2026-03-01T12:14:00+00:00", "disputed": false, "first": {"reader": "owner", "verdict": "LSIL", "comment": "LSIL, by owner@lab.example", "at": "2026-03-01T12:14:00+00:00"}, "second": null}, {"image": "ef1d54266ab8465dbc4f40642ca79f32", "sha256": "a548b305fb236fe9c09248d263b76aca65fb96ed98a902c13fabbffdacb056d4", "name": "signed-3.png", "position": 3, "width": 20, "height": 24, "state": "done", "reason": "", "model_sha256": "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "label": "normal_superficiel", "bethesda": "NILM", "p_abnormal": 0.1, "operating_point": 0.3, "flagged": false, "uncertain": false, "quality": "good", "verdict": "NILM", "stored": "NILM", "agrees": true, "reading": "first", "reader": "owner", "comment": "NILM, by owner@lab.example", "decided_at": "2026-03-01T12:21:00+00:00", "disputed": false, "first": {"reader": "owner", "verdict": "NILM", "comment": "NILM, by owner@lab.example", "at": "2026-03-01T12:21:00+00:00"}, "second": null}], "version": 2, "made_at": "2026-03-01T12:42:00+00:00", "signed_at": "2026-03-01T12:42:00+00:00", "signed_by": {"name": "reviewer", "email": "reviewer@lab.example", "role": "reviewer"}, "conclusion": "Carcinoma.", "reason": "read again"}', 'c0e4796714e97ce64021752293f4fbe0bc5e36d9c9bec53f9bcc22e8e92c2dcc', '87b42f16430c4ce896ab853639f59586', '2026-03-01 12:42:00+00', 'read again');


--
-- Data for Name: reviews; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.reviews VALUES (1, '909e58a5604a40e98e317f8dad6a6cf0', 'f1c2e34a0e524184a4852226aff92563', 'first', 'HSIL', true, 1, 'HSIL, by owner@lab.example', '2026-03-01 12:07:00+00');
INSERT INTO public.reviews VALUES (2, '80cd7fa68ed9453a8e6b7e8a279043ef', 'f1c2e34a0e524184a4852226aff92563', 'first', 'LSIL', true, 2, 'LSIL, by owner@lab.example', '2026-03-01 12:14:00+00');
INSERT INTO public.reviews VALUES (3, 'ef1d54266ab8465dbc4f40642ca79f32', 'f1c2e34a0e524184a4852226aff92563', 'first', 'NILM', true, 3, 'NILM, by owner@lab.example', '2026-03-01 12:21:00+00');
INSERT INTO public.reviews VALUES (4, '909e58a5604a40e98e317f8dad6a6cf0', 'f1c2e34a0e524184a4852226aff92563', 'first', 'SCC', false, 1, 'SCC, by owner@lab.example', '2026-03-01 12:35:00+00');
INSERT INTO public.reviews VALUES (5, '78bd80e95c72463cad25b0b29083f3ff', 'f1c2e34a0e524184a4852226aff92563', 'first', 'HSIL', true, 4, 'HSIL, by owner@lab.example', '2026-03-01 12:42:00+00');
INSERT INTO public.reviews VALUES (6, 'e7deb686cd294051a00645d2c3f665b1', 'f1c2e34a0e524184a4852226aff92563', 'first', 'NILM', true, 5, 'NILM, by owner@lab.example', '2026-03-01 12:49:00+00');
INSERT INTO public.reviews VALUES (7, '78bd80e95c72463cad25b0b29083f3ff', 'e5d7c1fc802d4e77a09edac3d9832a7a', 'second', 'ASC-H', false, 4, 'ASC-H, by second@lab.example', '2026-03-01 12:56:00+00');
INSERT INTO public.reviews VALUES (8, 'e7deb686cd294051a00645d2c3f665b1', 'e5d7c1fc802d4e77a09edac3d9832a7a', 'second', 'NILM', true, 5, 'NILM, by second@lab.example', '2026-03-01 13:03:00+00');
INSERT INTO public.reviews VALUES (9, '8b68ebbc661642f5afebb819dc0a7a38', 'f1c2e34a0e524184a4852226aff92563', 'first', 'LSIL', NULL, NULL, 'LSIL, by owner@lab.example', '2026-03-01 13:17:00+00');
INSERT INTO public.reviews VALUES (10, '8b68ebbc661642f5afebb819dc0a7a38', 'e5d7c1fc802d4e77a09edac3d9832a7a', 'second', 'LSIL', NULL, NULL, 'LSIL, by second@lab.example', '2026-03-01 13:24:00+00');
INSERT INTO public.reviews VALUES (11, 'a8e4f6725b4c41f4b19f21363492775c', 'f1c2e34a0e524184a4852226aff92563', 'first', 'NILM', NULL, NULL, 'NILM, by owner@lab.example', '2026-03-01 13:38:00+00');
INSERT INTO public.reviews VALUES (12, 'c311a4aff3ef4c54a506d52b42fce3ad', 'f1c2e34a0e524184a4852226aff92563', 'first', 'HSIL', true, 6, 'HSIL, by owner@lab.example', '2026-03-01 13:45:00+00');
INSERT INTO public.reviews VALUES (13, 'd8d9d6c5a2c842548dc04aeb9a14ecaa', 'f1c2e34a0e524184a4852226aff92563', 'first', 'ASC-US', false, 7, 'ASC-US, by owner@lab.example', '2026-03-01 13:52:00+00');
INSERT INTO public.reviews VALUES (14, 'c311a4aff3ef4c54a506d52b42fce3ad', 'e5d7c1fc802d4e77a09edac3d9832a7a', 'second', 'LSIL', false, 6, 'LSIL, by second@lab.example', '2026-03-01 13:59:00+00');
INSERT INTO public.reviews VALUES (15, 'f5e32811f0ff47c4bbd509544f51ac4c', 'f1c2e34a0e524184a4852226aff92563', 'first', 'HSIL', false, 8, 'HSIL, by owner@lab.example', '2026-03-01 14:06:00+00');
INSERT INTO public.reviews VALUES (16, 'f5e32811f0ff47c4bbd509544f51ac4c', 'e5d7c1fc802d4e77a09edac3d9832a7a', 'second', 'NILM', false, 8, 'NILM, by second@lab.example', '2026-03-01 14:13:00+00');
INSERT INTO public.reviews VALUES (17, 'f5e32811f0ff47c4bbd509544f51ac4c', '87b42f16430c4ce896ab853639f59586', 'settled', 'LSIL', true, 8, 'between the two', '2026-03-01 14:20:00+00');


--
-- Data for Name: sessions; Type: TABLE DATA; Schema: public; Owner: -
--



--
-- Data for Name: tokens; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.tokens VALUES ('485f27a717864e5398b36bf095611b47', 'f1c2e34a0e524184a4852226aff92563', 'a program', '00c396189597b6b15fb28f67d252bdf06f108d71bb9b40f9f5db2b340ef95d0b', '2026-03-01 12:00:00+00', NULL, '2026-05-30 12:00:00+00', NULL);


--
-- Data for Name: uploads; Type: TABLE DATA; Schema: public; Owner: -
--



--
-- Data for Name: users; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.users VALUES ('f1c2e34a0e524184a4852226aff92563', 'owner@lab.example', 'owner', 'reader', '$argon2id$v=19$m=8,t=1,p=1$EwrJfs6YuMNbODVhp8pLrA$3Hjj885S+qmXqU6Kf81xZGRXWLefJ7/IN7ej939VhRg', '', '', NULL, true, '2026-03-01 12:00:00+00', NULL);
INSERT INTO public.users VALUES ('e5d7c1fc802d4e77a09edac3d9832a7a', 'second@lab.example', 'second', 'reader', '$argon2id$v=19$m=8,t=1,p=1$BY/X4v2idQkxVEF+RtwvDw$Oe2gkgdDJqr4esHCGyUVVKZfAe8xWF9N9K1IR4IXYEM', '', '', NULL, true, '2026-03-01 12:00:00+00', NULL);
INSERT INTO public.users VALUES ('87b42f16430c4ce896ab853639f59586', 'reviewer@lab.example', 'reviewer', 'reviewer', '$argon2id$v=19$m=8,t=1,p=1$qgVdp6ncitRjXNr0Rbqflw$UfXbQRFdFeIKMBBrme2/biQRUzPfrYNgVQI17uaJoxU', '', '', NULL, true, '2026-03-01 12:00:00+00', NULL);
INSERT INTO public.users VALUES ('e5995a1bf38f4e74abd22563c57dd347', 'administrator@lab.example', 'administrator', 'administrator', '$argon2id$v=19$m=8,t=1,p=1$YkSfsQ87JaMvxm9gfXbGtA$VWC1hPKhNlo3rTkYkianBCCa2JMXvjctygvxPttYX/g', '', '', NULL, true, '2026-03-01 12:00:00+00', NULL);


--
-- Name: attempts_id_seq; Type: SEQUENCE SET; Schema: public; Owner: -
--

SELECT pg_catalog.setval('public.attempts_id_seq', 2, true);


--
-- Name: predictions_id_seq; Type: SEQUENCE SET; Schema: public; Owner: -
--

SELECT pg_catalog.setval('public.predictions_id_seq', 9, true);


--
-- Name: reviews_id_seq; Type: SEQUENCE SET; Schema: public; Owner: -
--

SELECT pg_catalog.setval('public.reviews_id_seq', 19, true);


--
-- Name: uploads_id_seq; Type: SEQUENCE SET; Schema: public; Owner: -
--

SELECT pg_catalog.setval('public.uploads_id_seq', 1, false);


--
-- Name: alembic_version alembic_version_pkc; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.alembic_version
    ADD CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num);


--
-- Name: attempts pk_attempts; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.attempts
    ADD CONSTRAINT pk_attempts PRIMARY KEY (id);


--
-- Name: audit pk_audit; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.audit
    ADD CONSTRAINT pk_audit PRIMARY KEY (id);


--
-- Name: audit_head pk_audit_head; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.audit_head
    ADD CONSTRAINT pk_audit_head PRIMARY KEY (id);


--
-- Name: cases pk_cases; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.cases
    ADD CONSTRAINT pk_cases PRIMARY KEY (id);


--
-- Name: codes pk_codes; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.codes
    ADD CONSTRAINT pk_codes PRIMARY KEY (id);


--
-- Name: images pk_images; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.images
    ADD CONSTRAINT pk_images PRIMARY KEY (id);


--
-- Name: predictions pk_predictions; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.predictions
    ADD CONSTRAINT pk_predictions PRIMARY KEY (id);


--
-- Name: reports pk_reports; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.reports
    ADD CONSTRAINT pk_reports PRIMARY KEY (id);


--
-- Name: reviews pk_reviews; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.reviews
    ADD CONSTRAINT pk_reviews PRIMARY KEY (id);


--
-- Name: sessions pk_sessions; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.sessions
    ADD CONSTRAINT pk_sessions PRIMARY KEY (id);


--
-- Name: tokens pk_tokens; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.tokens
    ADD CONSTRAINT pk_tokens PRIMARY KEY (id);


--
-- Name: uploads pk_uploads; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.uploads
    ADD CONSTRAINT pk_uploads PRIMARY KEY (id);


--
-- Name: users pk_users; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.users
    ADD CONSTRAINT pk_users PRIMARY KEY (id);


--
-- Name: cases uq_cases_number; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.cases
    ADD CONSTRAINT uq_cases_number UNIQUE (number);


--
-- Name: codes uq_codes_sha256; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.codes
    ADD CONSTRAINT uq_codes_sha256 UNIQUE (sha256);


--
-- Name: images uq_images_case_id_position; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.images
    ADD CONSTRAINT uq_images_case_id_position UNIQUE (case_id, "position");


--
-- Name: reports uq_reports_case_id_version; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.reports
    ADD CONSTRAINT uq_reports_case_id_version UNIQUE (case_id, version);


--
-- Name: tokens uq_tokens_sha256; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.tokens
    ADD CONSTRAINT uq_tokens_sha256 UNIQUE (sha256);


--
-- Name: uploads uq_uploads_case_id_user_id_key; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.uploads
    ADD CONSTRAINT uq_uploads_case_id_user_id_key UNIQUE (case_id, user_id, key);


--
-- Name: users uq_users_email; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.users
    ADD CONSTRAINT uq_users_email UNIQUE (email);


--
-- Name: ix_attempts_at; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX ix_attempts_at ON public.attempts USING btree (at);


--
-- Name: ix_attempts_kind_subject_at; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX ix_attempts_kind_subject_at ON public.attempts USING btree (kind, subject, at);


--
-- Name: ix_audit_action; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX ix_audit_action ON public.audit USING btree (action);


--
-- Name: ix_audit_actor; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX ix_audit_actor ON public.audit USING btree (actor);


--
-- Name: ix_audit_at; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX ix_audit_at ON public.audit USING btree (at);


--
-- Name: ix_audit_subject; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX ix_audit_subject ON public.audit USING btree (subject);


--
-- Name: ix_cases_accession; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX ix_cases_accession ON public.cases USING btree (accession);


--
-- Name: ix_cases_created_at; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX ix_cases_created_at ON public.cases USING btree (created_at);


--
-- Name: ix_cases_owner_id; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX ix_cases_owner_id ON public.cases USING btree (owner_id);


--
-- Name: ix_cases_second_reader_id; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX ix_cases_second_reader_id ON public.cases USING btree (second_reader_id);


--
-- Name: ix_codes_expires_at; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX ix_codes_expires_at ON public.codes USING btree (expires_at);


--
-- Name: ix_codes_purpose_email; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX ix_codes_purpose_email ON public.codes USING btree (purpose, email);


--
-- Name: ix_codes_user_id; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX ix_codes_user_id ON public.codes USING btree (user_id);


--
-- Name: ix_images_sha256; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX ix_images_sha256 ON public.images USING btree (sha256);


--
-- Name: ix_images_state_created_at; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX ix_images_state_created_at ON public.images USING btree (state, created_at);


--
-- Name: ix_predictions_created_at; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX ix_predictions_created_at ON public.predictions USING btree (created_at);


--
-- Name: ix_predictions_image_id; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX ix_predictions_image_id ON public.predictions USING btree (image_id);


--
-- Name: ix_predictions_model_sha256; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX ix_predictions_model_sha256 ON public.predictions USING btree (model_sha256);


--
-- Name: ix_reports_signed_by; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX ix_reports_signed_by ON public.reports USING btree (signed_by);


--
-- Name: ix_reviews_created_at; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX ix_reviews_created_at ON public.reviews USING btree (created_at);


--
-- Name: ix_reviews_image_id; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX ix_reviews_image_id ON public.reviews USING btree (image_id);


--
-- Name: ix_reviews_prediction_id; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX ix_reviews_prediction_id ON public.reviews USING btree (prediction_id);


--
-- Name: ix_reviews_reader_id; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX ix_reviews_reader_id ON public.reviews USING btree (reader_id);


--
-- Name: ix_sessions_expires_at; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX ix_sessions_expires_at ON public.sessions USING btree (expires_at);


--
-- Name: ix_sessions_user_id; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX ix_sessions_user_id ON public.sessions USING btree (user_id);


--
-- Name: ix_tokens_user_id; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX ix_tokens_user_id ON public.tokens USING btree (user_id);


--
-- Name: ix_uploads_created_at; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX ix_uploads_created_at ON public.uploads USING btree (created_at);


--
-- Name: ix_uploads_user_id; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX ix_uploads_user_id ON public.uploads USING btree (user_id);


--
-- Name: cases fk_cases_owner_id; Type: FK CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.cases
    ADD CONSTRAINT fk_cases_owner_id FOREIGN KEY (owner_id) REFERENCES public.users(id);


--
-- Name: cases fk_cases_second_reader_id; Type: FK CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.cases
    ADD CONSTRAINT fk_cases_second_reader_id FOREIGN KEY (second_reader_id) REFERENCES public.users(id);


--
-- Name: codes fk_codes_user_id; Type: FK CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.codes
    ADD CONSTRAINT fk_codes_user_id FOREIGN KEY (user_id) REFERENCES public.users(id) ON DELETE CASCADE;


--
-- Name: images fk_images_case_id; Type: FK CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.images
    ADD CONSTRAINT fk_images_case_id FOREIGN KEY (case_id) REFERENCES public.cases(id) ON DELETE CASCADE;


--
-- Name: predictions fk_predictions_image_id; Type: FK CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.predictions
    ADD CONSTRAINT fk_predictions_image_id FOREIGN KEY (image_id) REFERENCES public.images(id) ON DELETE CASCADE;


--
-- Name: reports fk_reports_case_id; Type: FK CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.reports
    ADD CONSTRAINT fk_reports_case_id FOREIGN KEY (case_id) REFERENCES public.cases(id) ON DELETE CASCADE;


--
-- Name: reports fk_reports_signed_by; Type: FK CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.reports
    ADD CONSTRAINT fk_reports_signed_by FOREIGN KEY (signed_by) REFERENCES public.users(id);


--
-- Name: reviews fk_reviews_image_id; Type: FK CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.reviews
    ADD CONSTRAINT fk_reviews_image_id FOREIGN KEY (image_id) REFERENCES public.images(id) ON DELETE CASCADE;


--
-- Name: reviews fk_reviews_prediction_id; Type: FK CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.reviews
    ADD CONSTRAINT fk_reviews_prediction_id FOREIGN KEY (prediction_id) REFERENCES public.predictions(id) ON DELETE SET NULL;


--
-- Name: reviews fk_reviews_reader_id; Type: FK CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.reviews
    ADD CONSTRAINT fk_reviews_reader_id FOREIGN KEY (reader_id) REFERENCES public.users(id);


--
-- Name: sessions fk_sessions_user_id; Type: FK CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.sessions
    ADD CONSTRAINT fk_sessions_user_id FOREIGN KEY (user_id) REFERENCES public.users(id) ON DELETE CASCADE;


--
-- Name: tokens fk_tokens_user_id; Type: FK CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.tokens
    ADD CONSTRAINT fk_tokens_user_id FOREIGN KEY (user_id) REFERENCES public.users(id) ON DELETE CASCADE;


--
-- Name: uploads fk_uploads_case_id; Type: FK CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.uploads
    ADD CONSTRAINT fk_uploads_case_id FOREIGN KEY (case_id) REFERENCES public.cases(id) ON DELETE CASCADE;


--
-- Name: uploads fk_uploads_user_id; Type: FK CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.uploads
    ADD CONSTRAINT fk_uploads_user_id FOREIGN KEY (user_id) REFERENCES public.users(id);


--
-- PostgreSQL database dump complete
--


